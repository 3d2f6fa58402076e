"""Endpoints: what serves and how it does; one of them in full with ?endpoint=NAME."""

import streamlit as st
from dashboard import endpoint_reads
from dashboard.endpoint_reads import LIVE_SECONDS
from dashboard.parts.deployment_form import asked_for, deploy_dialog, served_names
from dashboard.parts.endpoint_steering import steering
from dashboard.parts.endpoint_view import (
    card,
    course_charts,
    decisions_part,
    endpoint_badge,
    figures_row,
    say_what_is_wrong,
    versions_table,
)
from dashboard.parts.pieces import command_line
from dashboard.parts.states import acting, empty, shown
from dashboard.parts.text import plain
from dashboard.session import Session, current
from dashboard.words import Translator

from heliostat.control.endpoint_actions import read_logs
from heliostat.control.endpoint_state import EndpointState
from heliostat.control.readings import latest
from heliostat.control.shown_commands import command_on

LOG_LINES = 200


def list_page(session: Session, served: tuple[str, ...]) -> None:
    """All of them as cards."""
    t = session.t
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title(t("endpoints.title"), width="stretch")
        if st.button(t("endpoints.deploy"), icon=":material/rocket_launch:", key="endpoints_deploy"):
            deploy_dialog(session, served)

    @st.fragment(run_every=LIVE_SECONDS)
    def live() -> None:
        states = shown(endpoint_reads.endpoints(session.site))
        if states:
            with st.grid(min_column_width=340):
                for state in states:
                    card(state)
        elif states is not None:
            empty(
                t("endpoints.none"),
                t("endpoints.deploy"),
                lambda: st.query_params.update(deploy="1") or st.rerun(),
            )

    live()
    command_line(command_on(session.site, "heliostat", "endpoints", "list"))


def one_page(session: Session, name: str, served: tuple[str, ...]) -> None:
    """One of them in full."""
    t = session.t
    back = ":material/arrow_back:"
    if st.button(t("endpoints.all"), icon=back, type="tertiary", key="endpoints_all"):
        _leave()
    state = _now(session, name)
    if state is None:
        st.title(t("endpoints.title"))
        shown(endpoint_reads.endpoints(session.site))
        empty(t("endpoints.unknown"), t("endpoints.all"), _leave)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title(state.name, width="stretch")
        if state.live:
            _to_playground(t, name)
    run_every = LIVE_SECONDS if state.status not in ("stopped", "gone") else None
    st.fragment(_live_head, run_every=run_every)(session, name)
    left, right = st.columns([3, 2], gap="large")
    with left:
        st.fragment(_live_body, run_every=run_every)(session, name)
    with right:
        how_to_ask(session, state)
        with st.container(border=True):
            steering(session, state)
        deploy = st.button(
            t("endpoints.deploy_beside"), icon=":material/rocket_launch:", key="endpoints_deploy"
        )
        if deploy:
            deploy_dialog(session, served)
    if state.live:
        logs(session, name)
    command_line(command_on(session.site, "heliostat", "serve", "status", name))


def _leave() -> None:
    st.switch_page("views/endpoints.py")


def _to_playground(t: Translator, name: str) -> None:
    query = {"endpoint": name}
    label, icon = t("endpoints.chat"), ":material/forum:"
    st.page_link("views/playground.py", label=label, icon=icon, query_params=query)


def _live_head(session: Session, name: str) -> None:
    shown(endpoint_reads.endpoints(session.site))
    state = _now(session, name)
    if state is None:
        return
    endpoint_badge(state)
    say_what_is_wrong(state)
    if state.live:
        figures_row(state)


def _live_body(session: Session, name: str) -> None:
    state = _now(session, name)
    if state is None:
        return
    versions_table(state)
    if state.live:
        course_charts(state, endpoint_reads.course(session.site, name))
        decisions_part(state.decisions)


def _now(session: Session, name: str) -> EndpointState | None:
    known = latest(endpoint_reads.endpoints(session.site))
    return next((each for each in known.value if each.name == name), None) if known else None


def how_to_ask(session: Session, state: EndpointState) -> None:
    """Address, name and a line to paste."""
    t = session.t
    st.subheader(t("endpoints.ask"))
    st.code(state.curl, language="bash", wrap_lines=True)
    st.caption(t("endpoints.base_url"))
    st.code(state.base_url, language=None)
    if state.needs_key:
        make = command_on(session.site, "heliostat", "keys", "create", "NAME")
        st.caption(t("endpoints.needs_key", command=plain(make)))


def logs(session: Session, name: str) -> None:
    """The end of each replica's log, read when somebody asks for it."""
    t = session.t
    opened = st.expander(
        t("endpoints.logs"), icon=":material/subject:", on_change="rerun", key="endpoint_logs"
    )
    if not opened.open:
        return
    with opened, acting():
        said = read_logs(session.site.workspace, name, LOG_LINES)
        st.button(t("endpoints.logs_anew"), icon=":material/refresh:", key="endpoint_logs_anew")
        if not said:
            st.caption(t("endpoints.logs_none"))
        for replica, lines in said.items():
            st.caption(replica)
            with st.container(height=300, autoscroll=True):
                st.code("\n".join(lines), language=None, wrap_lines=True)


session = current()
served = served_names(session)
asked = st.query_params.get("endpoint")
if asked:
    one_page(session, asked, served)
else:
    list_page(session, served)
if asked_for():
    deploy_dialog(session, served)
