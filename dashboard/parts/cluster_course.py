"""How much of the cluster was in use over the last day, as a picture."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

import streamlit as st

from dashboard.charts.over_time import line, times, value_axis
from dashboard.parts.chart import chart
from dashboard.session import Session, time_zone
from heliostat.control.cluster_course import EVERY_SECONDS, ClusterUse, read_course
from heliostat.control.readings import latest

GAP_SECONDS = 4 * EVERY_SECONDS
"""So long without a line, nobody was watching: the picture has a gap there."""
MOST_ROWS = 500


def _share(used: float | None, total: float | None) -> float | None:
    return used / total if used is not None and total else None


MEASURES: dict[str, Callable[[ClusterUse], float | None]] = {
    "gpus": lambda use: _share(use.gpus_used, use.gpus_total),
    "gpu_utilisation": lambda use: use.gpu_utilisation,
    "cpus": lambda use: _share(use.cpus_used, use.cpus_total),
    "memory": lambda use: use.memory_share,
}
"""What is drawn, as shares from 0 to 1."""


def cluster_course(session: Session) -> None:
    """The picture; nothing before there are two lines to draw it from."""
    t, site = session.t, session.site
    known = latest(read_course(site.store, site.address)) if site.address else None
    course = known.value if known else ()
    if len(course) < 2:
        return
    st.subheader(t("cluster_course.title"), anchor=False)
    drawn = {name: list(points_of(course, measure)) for name, measure in MEASURES.items()}
    told = {name: points for name, points in drawn.items() if any(value is not None for _, value in points)}
    option = times(
        [
            line(t(f"cluster_course.{name}"), points, step=name in ("gpus", "cpus"))
            for name, points in told.items()
        ],
        [value_axis("%") | {"max": 100}],
    )
    zone = time_zone()
    rows = [
        {
            t("cluster_course.at"): f"{use.at.astimezone(zone):%m-%d %H:%M:%S}",
            t("cluster_course.nodes"): use.num_nodes,
        }
        | {t(f"cluster_course.{name}"): _percent(MEASURES[name](use)) for name in told}
        for use in reversed(course[-MOST_ROWS:])
    ]
    chart(option, key="cluster_course", alt=t("cluster_course.alt"), rows=rows, height=220)


def points_of(
    course: Sequence[ClusterUse], measure: Callable[[ClusterUse], float | None]
) -> Iterator[tuple[datetime, float | None]]:
    """Percents over time, with nothing in the middle of a gap."""
    before: ClusterUse | None = None
    for use in course:
        if before is not None and (use.at - before.at).total_seconds() > GAP_SECONDS:
            yield before.at + (use.at - before.at) / 2, None
        yield use.at, _percent(measure(use))
        before = use


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 1)
