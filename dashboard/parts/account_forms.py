"""The accounts that may log in: a table, a form for a new one, and what can be done with one."""

from collections.abc import Callable, Sequence
from functools import partial

import streamlit as st

from dashboard.parts.pieces import command_line, confirm
from dashboard.parts.states import acting, empty
from dashboard.parts.table import table
from dashboard.session import Session
from heliostat.control.account_actions import (
    Listed,
    add_account,
    change_role,
    list_accounts,
    remove_account,
    set_password,
)
from heliostat.control.accounts import MINIMUM_PASSWORD, Accounts
from heliostat.control.roles import ROLES
from heliostat.control.shown_commands import command_on
from heliostat.errors import ConfigError

DONE_SO_FAR = "settings_done_so_far"
COMMAND = ("heliostat", "dashboard", "user")


def account_forms(session: Session, accounts: Accounts) -> None:
    """All of it, for an admin."""
    t = session.t
    there: tuple[Listed, ...] | None = None
    with acting():
        there = list_accounts(accounts, session.actor)
    if there is None:
        return
    if there:
        rows = [
            {t("settings.user"): each.name, t("settings.role"): t(f"app.role.{each.role}")} for each in there
        ]
        table(rows, key="settings_accounts", alt=t("settings.accounts"))
        _change(session, accounts, there)
        command_line(command_on(session.site, *COMMAND, "list"))
    else:
        empty(t("settings.no_accounts"))
    _add(session, accounts, first=not there)


def _add(session: Session, accounts: Accounts, first: bool) -> None:
    t = session.t
    with st.expander(t("settings.add"), icon=":material/person_add:", expanded=first):
        with st.form("settings_add", border=False):
            name = st.text_input(
                t("settings.user"), key=_fresh("settings_add_name"), help=t("settings.user_help")
            )
            roles = ("admin",) if first else ROLES
            role = st.selectbox(
                t("settings.role"),
                roles,
                format_func=lambda each: t(f"settings.role_{each}"),
                key=_fresh("settings_add_role"),
            )
            passwords = _two_passwords(session, "settings_add")
            pressed = st.form_submit_button(t("settings.add"), type="primary")
        if pressed:
            with acting():
                added = add_account(accounts, session.actor, name, str(role), _agreed(session, passwords))
                _done(t("settings.added", name=added.name))
        new = ["add", "NAME", "--role", roles[-1] if first else "operator"]
        command_line(command_on(session.site, *COMMAND, *new))


def _change(session: Session, accounts: Accounts, there: Sequence[Listed]) -> None:
    """One account's role, password and end."""
    t = session.t
    with st.container(border=True):
        names = [each.name for each in there]
        name = st.selectbox(t("settings.which"), names, key="settings_which")
        chosen = next((each for each in there if each.name == name), there[0])
        if chosen.name == session.actor.user:
            st.info(t("settings.own"), icon=":material/person:")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            role = st.selectbox(
                t("settings.role"),
                ROLES,
                index=ROLES.index(chosen.role),
                format_func=lambda each: t(f"settings.role_{each}"),
                key=f"settings_role_{chosen.name}",
            )
            asked = st.button(
                t("settings.set_role"), key="settings_set_role", disabled=role == chosen.role, width="content"
            )
        if asked:
            ask_to_change_role(session, accounts, chosen.name, role)
        _password(session, accounts, chosen.name)
        if st.button(t("settings.remove"), icon=":material/person_remove:", key="settings_remove"):
            ask_to_remove(session, accounts, chosen.name)


def ask_to_change_role(session: Session, accounts: Accounts, name: str, role: str) -> None:
    """A dialog that says what ends with it."""
    _ask(session, name, "set_role", role, partial(change_role, accounts, session.actor, name, role))


def ask_to_remove(session: Session, accounts: Accounts, name: str) -> None:
    """A dialog that says what ends with it."""
    _ask(session, name, "remove", "", partial(remove_account, accounts, session.actor, name))


def _ask(session: Session, name: str, what: str, role: str, do: Callable[[], None]) -> None:
    t = session.t
    own = name == session.actor.user
    question = t(f"settings.{what}_question", role=t(f"app.role.{role}") if role else "")
    word = "role" if what == "set_role" else what
    confirm(
        name,
        f"{question} {t('settings.own_ends')}" if own else question,
        t(f"settings.{what}"),
        do,
        done=t("settings.done", name=name),
        command=command_on(session.site, *COMMAND, word, name, *([role] if role else [])),
    )


def _password(session: Session, accounts: Accounts, name: str) -> None:
    t = session.t
    with st.expander(t("settings.set_password"), icon=":material/password:"):
        with st.form(f"settings_password_of_{name}", border=False):
            passwords = _two_passwords(session, f"settings_of_{name}")
            st.caption(t("settings.password_ends"))
            pressed = st.form_submit_button(t("settings.set_password"))
        if pressed:
            with acting():
                set_password(accounts, session.actor, name, _agreed(session, passwords))
                _done(t("settings.done", name=name))
        command_line(command_on(session.site, *COMMAND, "password", name))


def _two_passwords(session: Session, key: str) -> tuple[str, str]:
    t = session.t
    first = st.text_input(
        t("settings.password"),
        type="password",
        autocomplete="new-password",
        key=_fresh(f"{key}_password"),
        help=t("settings.password_help", n=MINIMUM_PASSWORD),
    )
    again = st.text_input(
        t("settings.again"), type="password", autocomplete="new-password", key=_fresh(f"{key}_again")
    )
    return first or "", again or ""


def _agreed(session: Session, passwords: tuple[str, str]) -> str:
    if passwords[0] != passwords[1]:
        raise ConfigError(session.t("settings.differ"))
    return passwords[0]


def _fresh(key: str) -> str:
    """A widget's key until something was done; then another, so that what was typed is forgotten here too."""
    return f"{key}_{st.session_state.get(DONE_SO_FAR, 0)}"


def _done(said: str) -> None:
    """Say it once the page was drawn anew, with the table as it is now and empty forms."""
    st.session_state[DONE_SO_FAR] = st.session_state.get(DONE_SO_FAR, 0) + 1
    st.session_state["parts_done"] = said
    st.rerun()
