"""Alerts as pages show them: a card each on their own page, a line each where they concern something."""

from collections.abc import Iterable, Sequence

import streamlit as st

from dashboard.parts.links import go, has_page
from dashboard.parts.states import acting
from dashboard.parts.text import moment, plain
from dashboard.session import Session, time_zone
from dashboard.words import Translator
from heliostat.control.alerts import RUNBOOK, Alert, acknowledge, read_alerts
from heliostat.control.readings import latest
from heliostat.control.sites import Site

LINES = 3
OF_FAILURES = ("JobFailed", "TrainingFailed", "StageFailed")
"""What a run's own page says at length."""


def rule_name(t: Translator, rule: str) -> str:
    """A rule in the reader's language; one that another version knows as it is."""
    return t(f"alerts.rule.{rule}") if rule in RUNBOOK else rule


def open_alerts(site: Site) -> tuple[Alert, ...]:
    """Those that are open, as far as is known."""
    known = latest(read_alerts(site.store))
    return known.value if known else ()


def alert_lines(session: Session, subjects: Iterable[str]) -> None:
    """The open alerts about these, a line each; nothing where all is well."""
    wanted = set(subjects)
    found = [alert for alert in open_alerts(session.site) if alert.subject in wanted]
    for alert in [each for each in found if each.rule not in OF_FAILURES][:LINES]:
        name = plain(rule_name(session.t, alert.rule))
        st.warning(f"**{name}**: {plain(alert.text)}", icon=":material/notifications:")
        st.caption(plain(alert.mend))


def alert_card(session: Session, alert: Alert) -> None:
    """One alert in full: what, where, since when, how to mend it, who looks after it."""
    t, zone = session.t, time_zone()
    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{plain(rule_name(t, alert.rule))}**")
            if alert.until is not None:
                st.badge(t("alerts.over"), color="gray", icon=":material/check_circle:")
            elif alert.acknowledged_by is not None:
                st.badge(t("alerts.seen"), color="orange", icon=":material/visibility:")
            else:
                st.badge(t("alerts.open"), color="red", icon=":material/error:")
            st.caption(t("alerts.since", at=moment(alert.since, zone)))
            if alert.until is not None:
                st.caption(t("alerts.until", at=moment(alert.until, zone)))
        st.text(alert.text)
        st.caption(t("alerts.mend"))
        st.text(alert.mend)
        if alert.runbook:
            st.code(alert.runbook, language=None)
        if alert.acknowledged_by is not None:
            st.caption(t("alerts.seen_by", user=plain(alert.acknowledged_by)))
        with st.container(horizontal=True):
            _to_subject(t, alert)
            if alert.until is None and alert.acknowledged_by is None:
                _acknowledge_button(session, alert)


def alert_rows(session: Session, alerts: Sequence[Alert]) -> list[dict[str, object]]:
    """A table's rows."""
    t, zone = session.t, time_zone()
    return [
        {
            t("alerts.col.rule"): rule_name(t, alert.rule),
            t("alerts.col.where"): alert.subject,
            t("alerts.col.what"): alert.text,
            t("alerts.col.mend"): alert.mend,
            t("alerts.col.since"): moment(alert.since, zone),
            t("alerts.col.until"): moment(alert.until, zone) if alert.until else "",
            t("alerts.col.by"): alert.acknowledged_by or "",
            t("alerts.col.id"): alert.id,
        }
        for alert in alerts
    ]


def _to_subject(t: Translator, alert: Alert) -> None:
    """The way to the page of what it is about, where there is one."""
    page, query = {
        "run": ("run", {"run": alert.name}),
        "job": ("run", {"run": alert.name}),
        "endpoint": ("endpoints", {"endpoint": alert.name}),
    }.get(alert.kind, ("cluster", {}))
    if has_page(page) and st.button(
        t(f"alerts.to.{page}"), key=f"alert_go_{alert.id}", icon=":material/open_in_new:", type="tertiary"
    ):
        go(page, **query)


def _acknowledge_button(session: Session, alert: Alert) -> None:
    t = session.t
    may = session.actor.may("operator")
    pressed = st.button(
        t("alerts.acknowledge"),
        key=f"alert_ack_{alert.id}",
        icon=":material/visibility:",
        disabled=not may,
        help=t("alerts.acknowledge_help") if may else t("alerts.viewer"),
    )
    if pressed:
        through = False
        with acting():
            acknowledge(session.site, session.actor, alert.id)
            through = True
        if through:
            st.rerun()
