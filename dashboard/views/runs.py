"""Runs: all jobs, and the runs nobody handed in as a job; where they are and what they wait for."""

from collections.abc import Sequence
from typing import Any

import streamlit as st
from dashboard.charts.sparkline import sparkline
from dashboard.parts.links import kept
from dashboard.parts.pieces import command_line, status_text
from dashboard.parts.states import age, empty, health_banner, unavailable
from dashboard.parts.table import table
from dashboard.parts.text import ago, moment
from dashboard.session import current, time_zone
from dashboard.work_reads import work

from heliostat.control.collector import read_cluster
from heliostat.control.curves import View, run_curves
from heliostat.control.readings import Unavailable, latest
from heliostat.control.shown_commands import command_on
from heliostat.control.work_list import GROUPS, UNDER_WAY, Work, WorkFilter, course_of
from heliostat.errors import HeliostatError

SHOWN = 200
"""So many lines in the table; the filters find the others."""
DRAWN = 20
"""So many of them with a course of their loss, which means reading a file each."""
VIEW = View(smoothing=0.6, most=100)

session = current()
t = session.t
site = session.site


def filters() -> WorkFilter:
    """What the page is narrowed to, kept in its address."""
    group = st.segmented_control(
        t("runs.state"),
        list(GROUPS),
        format_func=lambda key: t(f"runs.group.{key}"),
        **kept("runs_state", GROUPS),
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input(
            t("runs.find"), key="runs_find", bind="query-params", placeholder=t("runs.find_hint"), width=240
        )
        mine = st.toggle(t("runs.mine"), key="runs_mine", bind="query-params")
    return WorkFilter(group, session.actor.user if mine else None, text or None)


def rows(lines: Sequence[Work]) -> list[dict[str, Any]]:
    """The table's rows."""
    zone = time_zone()
    found = []
    for number, line in enumerate(lines):
        course = course_of(site, line.training) if number < DRAWN and line.training else None
        found.append(
            {
                t("runs.name"): line.name,
                t("runs.status"): status_text(line.state),
                t("runs.stage"): line.stage,
                t("runs.progress"): course.share if course else None,
                t("runs.loss"): _loss(line) if course else [],
                t("runs.left"): ago(t, course.seconds_left) if course and course.seconds_left else "",
                t("runs.started"): moment(line.started_at, zone),
                t("runs.took"): ago(t, line.seconds),
                t("runs.who"): line.user,
                t("runs.why"): line.reason,
                "id": line.id,
            }
        )
    return found


def _loss(line: Work) -> list[float]:
    assert line.training is not None
    try:
        return sparkline(run_curves(site.workspace, line.training.id, ["loss"], VIEW).get("loss"))
    except HeliostatError:  # its file went meanwhile
        return []


def columns() -> dict[str, Any]:
    """How the columns are drawn."""
    return {
        t("runs.progress"): st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1),
        t("runs.loss"): st.column_config.LineChartColumn(),
        t("runs.name"): st.column_config.TextColumn(pinned=True),
        t("runs.why"): st.column_config.TextColumn(width="large"),
    }


def listing(wanted: WorkFilter) -> None:
    """The table, drawn anew while something is under way."""
    reading = work(site, wanted)
    if isinstance(reading, Unavailable):
        unavailable(reading)
    known = latest(reading)
    if known is None:
        return
    lines = known.value
    if not lines:
        nothing(wanted)
        return
    shown = lines[:SHOWN]
    chosen = table(
        rows(shown),
        key="runs",
        ids=[line.id for line in shown],
        columns=columns(),
        choose="many",
        alt=t("runs.alt"),
    )
    if len(lines) > SHOWN:
        st.caption(t("runs.more", shown=SHOWN, n=len(lines)))
    names = {line.id: line for line in lines}
    with st.container(horizontal=True):
        for work_id in chosen[:3]:
            label = t("runs.open", name=names[work_id].name)
            if st.button(label, key=f"open_{work_id}", icon=":material/open_in_new:"):
                st.switch_page("views/run.py", query_params={"run": work_id})
        trained = [line.training.id for line in map(names.__getitem__, chosen) if line.training]
        if len(trained) > 1 and st.button(t("runs.compare", n=len(trained)), type="primary"):
            st.switch_page("views/compare.py", query_params={"runs": ",".join(trained)})
    if not chosen:
        st.caption(t("runs.choose"))


def nothing(wanted: WorkFilter) -> None:
    """Why there is nothing, and what to do."""
    if wanted == WorkFilter():
        first = t("runs.first")
        empty(t("runs.none"), first, lambda: st.switch_page("views/new_run.py", query_params=PRESET))
    else:
        empty(t("runs.none_such"), t("runs.clear"), _clear)


def _clear() -> None:
    for key in ("runs_state", "runs_find", "runs_mine"):
        st.session_state.pop(key, None)
    st.query_params.clear()
    st.rerun()


PRESET = {"preset": "one_minute"}
st.title(t("app.page.runs"))
health_banner(read_cluster(site.store))
asked = filters()
first = latest(work(site, asked))
busy = first is not None and any(line.state in UNDER_WAY for line in first.value)
st.fragment(listing, run_every="4s" if busy else None)(asked)
if first is not None:
    age(first)
command_line(command_on(site, "heliostat", "jobs", "list"))
