"""Settings: the connection, how things look, where they lie, the queue's limits, accounts, versions."""

import platform

import streamlit as st
from dashboard.language import LANGUAGES
from dashboard.parts.account_forms import account_forms
from dashboard.parts.links import look_link
from dashboard.parts.pieces import command_line
from dashboard.parts.states import acting, noted
from dashboard.parts.text import number, plain
from dashboard.session import current
from dashboard.started import door

import heliostat
from heliostat.control.collector import read_cluster
from heliostat.control.connection import Attempt, try_connection
from heliostat.control.doctor_packages import installed_versions
from heliostat.control.job_queue import Limits, change_limits, read_limits
from heliostat.control.readings import Ok, take
from heliostat.control.shown_commands import command_on
from heliostat.text.concealing import without_secrets

PACKAGES = ("streamlit", "ray", "torch")
MOST_JOBS = 100_000
THEMES = ("light", "dark", "system")

session = current()
t = session.t
site = session.site


def connection() -> None:
    """Which cluster, whether it answers, and how to name another."""
    st.header(t("settings.connection"), anchor=False)
    address = without_secrets(site.address) if site.address else ""
    if address:
        st.text(address)
    reading = read_cluster(site.store)
    version = noted(reading)
    if isinstance(reading, Ok):
        st.markdown(f":green[:material/check_circle:] {t('settings.answers', version=plain(version))}")
    allowed = session.actor.may("operator")
    if st.button(
        t("settings.test"),
        icon=":material/network_check:",
        key="settings_test",
        disabled=not allowed,
        help=None if allowed else t("settings.for_operators"),
    ):
        with acting(), st.spinner(t("settings.testing"), show_time=True):
            attempt = try_connection(session.actor, site.address)
            _tell(attempt)
    words = ["--address", address] if address else ["--address", "http://HEAD:8265"]
    command_line(command_on(site, "heliostat", "dashboard", *words), label=t("settings.how_to_connect"))
    st.caption(t("settings.token"))


def _tell(attempt: Attempt) -> None:
    said = t(f"settings.attempt.{attempt.outcome}", seconds=number(attempt.seconds, 2))
    if attempt.outcome == "answers":
        st.success(f"{said} Ray {plain(attempt.version)}", icon=":material/check_circle:")
    elif attempt.outcome == "none":
        st.info(said, icon=":material/cloud_off:")
    else:
        st.error(f"{said} {plain(attempt.reason)}", icon=":material/cloud_off:")


def look() -> None:
    """Language and theme, kept in this browser."""
    st.header(t("settings.look"), anchor=False)
    languages = [
        f"<b>{name}</b>" if code == session.language else look_link("language", code, name)
        for code, name in LANGUAGES.items()
    ]
    themes = [look_link("theme", theme, t(f"app.theme.{theme}")) for theme in THEMES]
    for label, links in ((t("settings.language"), languages), (t("settings.theme"), themes)):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{label}**", width=90)
            st.html(" &nbsp;·&nbsp; ".join(links))


def place() -> None:
    """Where what is made lies, and what is known of it."""
    st.header(t("settings.place"), anchor=False)
    st.caption(t("settings.workspace"))
    st.text(without_secrets(site.workspace.storage.root))
    st.caption(t("settings.database"))
    st.text(site.store.shown)


def limits() -> None:
    """How many jobs may be on the cluster at once."""
    st.header(t("settings.limits"), anchor=False)
    found = noted(take(lambda: read_limits(site.store)))
    if found is None:
        return
    allowed = session.actor.may("admin")
    st.caption(t("settings.limits_what") if allowed else t("settings.for_admins"))
    with st.form("settings_limits", border=False):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            total = _limit("total", found.max_running, allowed)
            per_user = _limit("per_user", found.max_running_per_user, allowed)
        pressed = st.form_submit_button(t("settings.save"), disabled=not allowed)
    if pressed:
        with acting(t("settings.limits_saved")):
            wanted = Limits(max_running=total, max_running_per_user=per_user)
            change_limits(site.store, session.actor, wanted)
    numbers = ["--total", str(total), "--per-user", str(per_user)]
    command_line(command_on(site, "heliostat", "jobs", "limits", *numbers), key="limits")


def _limit(name: str, value: int, allowed: bool) -> int:
    asked = st.number_input(
        t(f"settings.{name}"),
        min_value=1,
        max_value=max(MOST_JOBS, value),  # more may have been set by command
        value=value,
        step=1,
        key=f"settings_{name}",
        disabled=not allowed,
        width=220,
    )
    return int(asked)


def accounts() -> None:
    """Who may log in; for admins."""
    if not session.actor.may("admin"):
        return
    st.header(t("settings.accounts"), anchor=False)
    keeper = door()
    if keeper.way == "proxy":
        st.caption(t("settings.by_proxy"))
        return
    account_forms(session, keeper.accounts)


def keys() -> None:
    """Where the gateways' keys are made."""
    st.header(t("settings.keys"), anchor=False)
    make = command_on(site, "heliostat", "keys", "create", "NAME")
    st.caption(t("settings.keys_what", command=plain(make)))
    command_line(command_on(site, "heliostat", "keys", "list"))


def versions() -> None:
    """What runs here."""
    st.header(t("settings.about"), anchor=False)
    here = {"heliostat": heliostat.__version__, "python": platform.python_version()}
    here |= {name: found or t("settings.missing") for name, found in installed_versions(PACKAGES).items()}
    with st.grid(min_column_width=150):
        for name, version in here.items():
            with st.container(gap="xxsmall"):
                st.caption(name)
                st.text(version)
    command_line(command_on(site, "heliostat", "doctor"))


st.title(t("settings.title"))
role = t(f"app.role.{session.actor.role}")
st.text(t("settings.you", user=session.actor.user, role=role))
connection()
look()
place()
limits()
accounts()
keys()
versions()
