"""Alerts: what went wrong, since when, and what may help."""

import streamlit as st
from dashboard.parts.alert_view import alert_card, alert_rows
from dashboard.parts.links import kept
from dashboard.parts.pieces import command_line
from dashboard.parts.states import empty, unavailable
from dashboard.parts.table import table
from dashboard.parts.text import plain
from dashboard.session import current

from heliostat.control.alert_watch import STALE_SECONDS, read_watch
from heliostat.control.alerts import read_alerts
from heliostat.control.readings import Ok, Unavailable, latest
from heliostat.control.shown_commands import command_on

SHOWN = ("open", "all")
MOST_CARDS = 30

session = current()
t = session.t
site = session.site


def how_it_is_known() -> None:
    """Whether anybody looks, and which rules could not: else an empty page would be no good news."""
    reading = read_watch(site.store)
    known = latest(reading)
    if known is None or known.age_seconds > STALE_SECONDS:
        st.warning(t("alerts.nobody_looks"), icon=":material/visibility_off:")
    notes = reading.value.notes if isinstance(reading, Ok) else ()
    if notes:
        with st.expander(t("alerts.notes", n=len(notes)), icon=":material/report:"):
            for note in notes:
                st.text(note)


@st.fragment(run_every="5s")
def live(every: bool) -> None:
    """What changes by itself."""
    how_it_is_known()
    reading = read_alerts(site.store, open_only=not every)
    if isinstance(reading, Unavailable):
        unavailable(reading)
        return
    found = reading.value
    if not found:
        empty(t("alerts.none_ever") if every else t("alerts.none"))
        return
    for alert in found[:MOST_CARDS]:
        alert_card(session, alert)
    if len(found) > MOST_CARDS:
        st.caption(t("alerts.more", n=len(found) - MOST_CARDS))
    with st.expander(t("alerts.as_table"), icon=":material/table:"):
        table(alert_rows(session, found), key="alerts", alt=t("alerts.title"))


st.title(t("alerts.title"), anchor=False)
st.caption(plain(t("alerts.intro")))
shown = st.segmented_control(
    t("alerts.show"),
    SHOWN,
    default=None if "show" in st.session_state else "open",
    required=True,
    format_func=lambda name: t(f"alerts.show_{name}"),
    label_visibility="collapsed",
    **kept("show", SHOWN),
)
live(shown == "all")
more = ["--all"] if shown == "all" else []
command_line(command_on(site, "heliostat", "alerts", *more))
