"""Who looks, at what, in which language: everything that a page needs to know."""

import os
from dataclasses import dataclass
from datetime import timedelta, timezone, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from dashboard.language import LANGUAGES, best_language
from dashboard.started import ADMISSION_HEADER, door, started
from dashboard.words import Translator, translator
from heliostat.control.roles import Actor

if TYPE_CHECKING:
    from heliostat.control.sites import Site

LANGUAGE_COOKIE = "heliostat_language"


@dataclass(frozen=True)
class Session:
    """One browser's view: who it is, how to say things (`t`), the language's code, dark or light."""

    actor: Actor
    t: Translator
    language: str
    dark: bool

    @property
    def site(self) -> "Site":
        """The workspace, its store and the cluster. Opened when first asked for: the frame needs none."""
        return site()


def current() -> Session:
    """The session of the script that runs. Ends the script where nobody is logged in (any more)."""
    actor = _actor()
    language = current_language()
    t = translator(language)
    if actor is None:
        st.error(t("app.logged_out"), icon=":material/lock:")
        st.stop()
    return Session(actor, t, language, st.context.theme.type == "dark")


def site() -> "Site":
    """The workspace and the cluster that the server was started with."""
    how = started()
    return _site(how.workspace, how.address, os.getcwd())


def current_language() -> str:
    """?lang, else what was chosen, else what the browser speaks."""
    asked = st.query_params.get("lang")
    if asked in LANGUAGES:
        st.session_state["language"] = asked
    chosen = st.session_state.get("language")
    return best_language(chosen, st.context.cookies.get(LANGUAGE_COOKIE), st.context.locale)


def current_translator() -> Translator:
    """What speaks the language of the script that runs."""
    return translator(current_language())


def time_zone() -> tzinfo:
    """The browser's time zone; UTC where it does not say."""
    name, offset = st.context.timezone, st.context.timezone_offset
    try:
        return ZoneInfo(name or "")
    except (ZoneInfoNotFoundError, ValueError):
        return timezone(timedelta(minutes=-offset)) if offset else ZoneInfo("UTC")


def _actor() -> Actor | None:
    keeper = door()
    sealed = st.context.headers.get(ADMISSION_HEADER)
    if sealed is None:
        # No gate before this script: a test, or a script that streamlit runs by itself on this machine.
        return keeper.local().actor if keeper.way == "local" else None
    admission = keeper.unsealed(sealed)
    return admission.actor if admission else None


@st.cache_resource(show_spinner=False, max_entries=8)
def _site(workspace: str | None, address: str | None, folder: str) -> "Site":
    from heliostat.control.sites import Site

    return Site.open(workspace, address)
