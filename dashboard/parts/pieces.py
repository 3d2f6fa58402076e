"""Small pieces: the command of a button, a status, figures in a row, a question before something is done."""

import hashlib
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import streamlit as st

from dashboard.parts.states import acting
from dashboard.parts.text import plain
from dashboard.session import current_translator

Colour = Literal["red", "orange", "yellow", "blue", "green", "violet", "gray"]
_STATUSES: dict[str, tuple[Colour, str]] = {
    "queued": ("gray", "schedule"),
    "pending": ("gray", "schedule"),
    "running": ("blue", "play_circle"),
    "deploying": ("blue", "sync"),
    "updating": ("blue", "sync"),
    "restarting": ("orange", "restart_alt"),
    "stopping": ("orange", "stop_circle"),
    "stopped": ("gray", "stop_circle"),
    "paused": ("gray", "pause_circle"),
    "succeeded": ("green", "check_circle"),
    "finished": ("green", "check_circle"),
    "complete": ("green", "check_circle"),
    "healthy": ("green", "check_circle"),
    "alive": ("green", "check_circle"),
    "failed": ("red", "error"),
    "unhealthy": ("red", "error"),
    "dead": ("red", "error"),
    "lost": ("red", "help"),
}


def status_text(status: str) -> str:
    """A status in the reader's language; one we do not know as it is."""
    known = status.lower()
    return current_translator()(f"parts.status.{known}") if known in _STATUSES else status


def status_badge(status: str) -> None:
    """A status with its colour and icon; one we do not know as it is, in grey."""
    colour, icon = _STATUSES.get(status.lower(), ("gray", "help"))
    st.badge(plain(status_text(status)), color=colour, icon=f":material/{icon}:")


def command_line(*words: str, label: str = "", key: str = "") -> None:
    """The command that does the same, to be copied. Words are quoted where a shell needs it.

    A command that changes with what is typed needs a `key`, or its box is shut with each change.
    """
    text = words[0] if len(words) == 1 else shlex.join(words)
    label = label or current_translator()("parts.as_command")
    folded_code(text, "bash", label, ":material/terminal:", key or text)


@st.fragment
def folded_code(text: str, language: str, label: str, icon: str, key: str) -> None:
    """Code in a box that is shut at first; `key` is its own on the page.

    Streamlit's block of code brings 1.5 MB of script along, for which no page has to wait: it is drawn when
    the box is opened.
    """
    name = hashlib.sha256(f"{label}\n{key}".encode()).hexdigest()[:16]
    box = st.expander(label, icon=icon, key=f"code_{name}", on_change="rerun")
    if box.open:
        box.code(text, language=language, wrap_lines=True)
    else:
        box.text(text)


@dataclass(frozen=True)
class Tile:
    """One figure: what it is, its value, what it grew by, and its course."""

    label: str
    value: str | int | float
    delta: str | int | float | None = None
    course: Sequence[float] | None = None
    help: str | None = None


def tiles(figures: Sequence[Tile]) -> None:
    """Figures side by side, as many as fit; one below the other on a phone."""
    with st.grid(min_column_width=160):
        for figure in figures:
            st.metric(
                figure.label,
                figure.value,
                delta=figure.delta,
                chart_data=list(figure.course) if figure.course else None,
                chart_type="area",
                help=figure.help,
                border=True,
            )


def confirm(
    name: str, question: str, button: str, do: Callable[[], Any], *, done: str = "", command: str = ""
) -> None:
    """Ask before something is done, in a dialog that names the thing; then do it and draw the page anew.

    `question` says what will happen; `name` stands above it as it is. Refusals stay in the dialog.
    """
    t = current_translator()

    @st.dialog(t("parts.confirm"))
    def ask() -> None:
        st.code(name, language=None, wrap_lines=True)
        st.markdown(question)
        if command:
            command_line(command)
        with st.container(horizontal=True, horizontal_alignment="right"):
            if st.button(t("parts.cancel"), key="confirm_cancel"):
                st.rerun()
            agreed = st.button(button, key="confirm_yes", type="primary")
        if agreed:
            through = False
            with acting():
                do()
                through = True
            if through:
                st.session_state["parts_done"] = done
                st.rerun()

    ask()


def say_done() -> None:
    """The toast of what a dialog did, after the page was drawn anew. The frame calls this."""
    done = st.session_state.pop("parts_done", "")
    if done:
        st.toast(plain(done), icon=":material/check:")
