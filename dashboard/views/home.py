"""Home: how things stand, and where to begin."""

from collections.abc import Sequence

import streamlit as st
from dashboard.parts.alert_view import open_alerts
from dashboard.parts.pieces import Tile, command_line, status_badge, tiles
from dashboard.parts.states import STALE_SECONDS, empty, health_banner, unavailable
from dashboard.parts.text import ago, number, plain
from dashboard.session import current

from heliostat.control.collector import read_cluster, read_noted_nodes
from heliostat.control.job_records import count_jobs
from heliostat.control.nodes import Node
from heliostat.control.readings import Ok, Unavailable, latest, take
from heliostat.control.shown_commands import command_on
from heliostat.control.work_list import Work, WorkFilter, course_of, read_work
from heliostat.endpoints import read_deployments

NEWEST = 6
ACTIVE = ("SUBMITTING", "PENDING", "RUNNING", "STOPPING")
PRESET = {"preset": "one_minute"}

session = current()
t = session.t
site = session.site


def health() -> None:
    """One line: whether the cluster answers, and with what."""
    reading = read_cluster(site.store)
    health_banner(reading)
    if not isinstance(reading, Ok) or reading.age_seconds > STALE_SECONDS:
        return
    nodes = latest(read_noted_nodes(site.store))
    alive = sum(node.alive for node in nodes.value) if nodes else 0
    st.markdown(f":green[:material/check_circle:] {t('home.healthy', n=alive, ray=plain(reading.value))}")


def figures() -> None:
    """Five figures: what is in use, what runs, what waits, what serves, what is wrong."""
    nodes = latest(read_noted_nodes(site.store))
    counted = latest(take(lambda: count_jobs(site.store)))
    counts = counted.value if counted else {}
    shown = [_in_use(nodes.value if nodes else ())]
    shown.append(Tile(t("home.running"), sum(counts.get(state, 0) for state in ACTIVE)))
    shown.append(Tile(t("home.queued"), counts.get("QUEUED", 0)))
    served = latest(take(lambda: read_deployments(site.workspace)))
    running = [each for each in served.value if each.status == "running"] if served else []
    shown.append(Tile(t("home.endpoints"), len(running)))
    alerts = open_alerts(site)
    shown.append(Tile(t("home.alerts"), len(alerts)))
    tiles(shown)
    new = sum(alert.acknowledged_by is None for alert in alerts)
    if new:
        icon = ":material/notifications:"
        st.page_link("views/alerts.py", label=t("home.alerts_new", n=new), icon=icon)


def _in_use(nodes: Sequence[Node]) -> Tile:
    alive = [node for node in nodes if node.alive]
    gpus = sum(node.gpus_total or 0 for node in alive)
    if gpus:
        used = sum(node.gpus_used or 0 for node in alive)
        return Tile(t("home.gpus"), f"{number(used)} / {number(gpus)}")
    total = sum(node.cpus_total or 0 for node in alive)
    used = sum(node.cpus_used or 0 for node in alive)
    return Tile(t("home.cpus"), f"{number(used)} / {number(total)}" if total else "–")


def beginnings() -> None:
    """Where to begin: three cards."""
    with st.grid(min_column_width=260):
        for name, icon, page, query in (
            ("minute", "bolt", "views/new_run.py", PRESET),
            ("clean", "cleaning_services", "views/new_run.py", {"preset": "clean"}),
            ("chat", "forum", "views/endpoints.py", {}),
        ):
            with st.container(border=True, height="stretch"):
                st.markdown(f"**{t(f'home.{name}')}**")
                st.caption(t(f"home.{name}_what"))
                kind = "primary" if name == "minute" else "secondary"
                if st.button(t(f"home.{name}"), key=f"home_{name}", icon=f":material/{icon}:", type=kind):
                    st.switch_page(page, query_params=query)


def newest() -> None:
    """The latest runs, a line each."""
    reading = read_work(site, WorkFilter(), NEWEST)
    if isinstance(reading, Unavailable):
        unavailable(reading)
    known = latest(reading)
    if known is None:
        return
    if not known.value:
        empty(t("home.no_runs"))
        return
    for line in known.value:
        _line(line)
    command_line(command_on(site, "heliostat", "jobs", "list"))


def _line(line: Work) -> None:
    course = course_of(site, line.training) if line.training and not line.ended else None
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        status_badge(line.state)
        st.text(line.name, width="stretch")
        if course is not None and course.share is not None:
            st.progress(course.share, text=t("home.step", step=course.step, of=course.num_steps), width=220)
        st.caption(ago(t, line.seconds), width="content")
        if st.button(
            t("home.open"), key=f"home_open_{line.id}", type="tertiary", icon=":material/open_in_new:"
        ):
            st.switch_page("views/run.py", query_params={"run": line.id})


@st.fragment(run_every="4s")
def live() -> None:
    """What changes by itself."""
    health()
    figures()
    st.subheader(t("home.newest"), anchor=False)
    newest()


st.title(t("app.page.home"))
beginnings()
live()
