"""The frame: navigation, who is logged in, language and theme, and the line on how the cluster does."""

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from dashboard.language import LANGUAGES
from dashboard.pages import there
from dashboard.parts.links import look_link, quiet_link
from dashboard.parts.pieces import say_done
from dashboard.session import Session, current
from dashboard.started import door


def page_of_this_run() -> StreamlitPage:
    """Draw the frame; returns the page to run inside it."""
    st.set_page_config(page_title="Heliostat", layout="wide")
    session = current()
    say_done()
    page = st.navigation(_navigation(session), position="sidebar", expanded=True)
    with st.sidebar:
        _foot(session)
    return page


def _navigation(session: Session) -> dict[str, list[StreamlitPage]]:
    t = session.t
    sections: dict[str, list[StreamlitPage]] = {}
    for entry in there():
        heading = t(f"app.section.{entry.section}") if entry.section else ""
        page = st.Page(
            entry.path,
            title=t(f"app.page.{entry.name}"),
            icon=f":material/{entry.icon}:",
            url_path=entry.name,
            default=entry.name == "home",
            visibility="hidden" if entry.hidden else "visible",
            help=t(f"app.help.{entry.name}"),
        )
        sections.setdefault(heading, []).append(page)
    return sections


def _foot(session: Session) -> None:
    t = session.t
    role = t(f"app.role.{session.actor.role}")
    others = {code: name for code, name in LANGUAGES.items() if code != session.language}
    links = [look_link("language", code, name) for code, name in others.items()]
    theme = "light" if session.dark else "dark"
    links.append(look_link("theme", theme, t(f"app.theme.{theme}")))
    if door().way == "accounts":
        links.append(quiet_link("/logout", t("app.log_out")))
    with st.container(key="foot", gap="xxsmall"):
        st.text(f"{session.actor.user} · {role}")
        st.html(f"<small>{' &nbsp;·&nbsp; '.join(links)}</small>")
