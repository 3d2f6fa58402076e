"""What is done to an endpoint: each behind a question that names it, each with its command."""

from collections.abc import Callable

import streamlit as st

from dashboard import endpoint_reads
from dashboard.parts.pieces import confirm
from dashboard.parts.text import plain
from dashboard.session import Session
from heliostat.control import endpoint_actions as actions
from heliostat.control.endpoint_actions import Done
from heliostat.control.endpoint_state import EndpointState
from heliostat.workspace import Workspace


def steering(session: Session, state: EndpointState) -> None:
    """The controls of an endpoint that serves, or the one thing left to do about one that does not."""
    t = session.t
    st.subheader(t("endpoints.steer"))
    may = session.actor.may(actions.ROLE)
    if not may:
        st.caption(t("endpoints.viewer"))
    if state.live:
        _canary(session, state, may)
        _replicas(session, state, may)
    with st.container(horizontal=True):
        if state.live:
            _button(
                session, state, "delete", lambda: actions.delete(session.actor, _place(session), state.name)
            )
        elif state.status != "locked":
            _button(
                session, state, "forget", lambda: actions.forget(session.actor, _place(session), state.name)
            )


def _place(session: Session) -> Workspace:
    return session.site.workspace


def _canary(session: Session, state: EndpointState, may: bool) -> None:
    t, newest = session.t, state.versions[-1]
    if len(state.versions) < 2:
        st.caption(t("endpoints.one_version"))
    else:
        with st.form("endpoint_canary", border=False):
            weight = st.slider(
                t("endpoints.share", version=plain(newest.label)),
                0,
                100,
                round(newest.weight),
                format="%d %%",
                key=f"endpoint_weight_{state.name}_{newest.label}",
            )
            asked = st.form_submit_button(
                t("endpoints.set_share"),
                disabled=not may,
                icon=":material/percent:",
                key="endpoint_set_share",
            )
        if asked:
            question = t("endpoints.set_share_question", version=plain(newest.label), weight=weight)
            _ask(
                session,
                state,
                question,
                t("endpoints.set_share"),
                lambda: actions.set_canary(session.actor, _place(session), state.name, weight),
                actions.command_of(_place(session), "canary", state.name, {"weight": weight}),
            )
    with st.container(horizontal=True):
        if len(state.versions) > 1:
            _button(
                session,
                state,
                "promote",
                lambda: actions.promote(session.actor, _place(session), state.name),
                version=plain(newest.label),
            )
        _button(
            session, state, "rollback", lambda: actions.roll_back(session.actor, _place(session), state.name)
        )


def _replicas(session: Session, state: EndpointState, may: bool) -> None:
    t, newest = session.t, state.versions[-1]
    with st.form("endpoint_replicas", border=False):
        with st.grid(min_column_width=140):
            fewest = st.number_input(
                t("endpoints.fewest"),
                0,
                1000,
                newest.fewest_replicas or 0,
                help=t("endpoints.rest_help"),
                key=f"endpoint_fewest_{state.name}",
            )
            most = st.number_input(
                t("endpoints.most"), 1, 1000, newest.most_replicas or 1, key=f"endpoint_most_{state.name}"
            )
        asked = st.form_submit_button(
            t("endpoints.scale"), disabled=not may, icon=":material/open_in_full:", key="endpoint_scale"
        )
    if asked:
        bounds = (int(fewest), int(most))
        values = {"fewest": bounds[0], "most": bounds[1]}
        _ask(
            session,
            state,
            t("endpoints.scale_question", **values),
            t("endpoints.scale"),
            lambda: actions.scale(session.actor, _place(session), state.name, bounds),
            actions.command_of(_place(session), "scale", state.name, values),
        )


def _button(
    session: Session, state: EndpointState, what: str, do: Callable[[], Done], version: str = ""
) -> None:
    """A button whose question and command go by the action's name."""
    t = session.t
    pressed = st.button(
        t(f"endpoints.{what}", version=version),
        key=f"endpoint_{what}",
        disabled=not session.actor.may(actions.ROLE),
        icon=f":material/{ICONS[what]}:",
    )
    if pressed:
        question = t(f"endpoints.{what}_question", version=version)
        command = actions.command_of(_place(session), what, state.name)
        _ask(session, state, question, t(f"endpoints.{what}", version=version), do, command)


ICONS = {"promote": "publish", "rollback": "undo", "delete": "stop_circle", "forget": "delete"}


def _ask(
    session: Session, state: EndpointState, question: str, button: str, do: Callable[[], Done], command: str
) -> None:
    def through() -> None:
        with st.spinner(button):  # a rollback brings a model up again
            do()
        endpoint_reads.look_anew()

    done = session.t("endpoints.done", said=f"{state.name}: {button}")
    confirm(state.name, question, button, through, done=done, command=command)
