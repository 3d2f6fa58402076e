"""How an endpoint was doing, as a picture: requests a second, latencies, replicas with decisions. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from dashboard.charts.over_time import Option, line, milliseconds, times, value_axis
from heliostat.control.endpoint_state import Decision
from heliostat.control.endpoints import Moment


def load_option(course: Sequence[Moment], words: Mapping[str, str]) -> Option:
    """Requests a second as an area (left axis), P50 and P95 in seconds as lines (right axis).

    `words` names the series: requests, p50, p95.
    """
    return times(
        series=[
            line(words["requests"], [(m.at, m.figures.requests_per_second) for m in course], area=True),
            line(words["p50"], [(m.at, m.figures.p50_seconds) for m in course], axis=1),
            line(words["p95"], [(m.at, m.figures.p95_seconds) for m in course], axis=1, dashed=True),
        ],
        axes=[value_axis("/s"), value_axis("s", right=True)],
    )


def replicas_option(
    course: Sequence[Moment], decisions: Sequence[Decision], words: Mapping[str, str]
) -> Option:
    """Replicas that are up and that are to be, as steps, with a mark at each decision.

    `words` names the series: now, target; and the marks: decision.
    """
    shown = [each for each in decisions if course and each.at >= course[0].at]
    target = line(words["target"], [(m.at, m.replicas_target) for m in course], dashed=True, step=True)
    target["markLine"] = {
        "symbol": "none",
        "silent": True,
        "lineStyle": {"type": "dotted", "opacity": 0.6},
        "label": {"formatter": "{b}", "fontSize": 10},
        "data": [{"xAxis": milliseconds(each.at), "name": f"{each.before} → {each.after}"} for each in shown],
    }
    now = line(words["now"], [(m.at, m.replicas_now) for m in course], step=True)
    return times(series=[now, target], axes=[value_axis("", whole=True)])


def course_rows(course: Sequence[Moment]) -> list[dict[str, Any]]:
    """The same as a table."""
    return [
        {
            "at": moment.at,
            "requests_per_second": moment.figures.requests_per_second,
            "p50_seconds": moment.figures.p50_seconds,
            "p95_seconds": moment.figures.p95_seconds,
            "error_share": moment.figures.error_share,
            "replicas_now": moment.replicas_now,
            "replicas_target": moment.replicas_target,
        }
        for moment in course
    ]
