"""How an endpoint was doing, as a picture: requests a second, latencies, replicas with decisions. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from heliostat.control.endpoint_state import Decision
from heliostat.control.endpoints import Moment

Option = dict[str, Any]


def load_option(course: Sequence[Moment], words: Mapping[str, str]) -> Option:
    """Requests a second as an area (left axis), P50 and P95 in seconds as lines (right axis).

    `words` names the series: requests, p50, p95.
    """
    return _times(
        series=[
            _line(words["requests"], [(m.at, m.figures.requests_per_second) for m in course], area=True),
            _line(words["p50"], [(m.at, m.figures.p50_seconds) for m in course], axis=1),
            _line(words["p95"], [(m.at, m.figures.p95_seconds) for m in course], axis=1, dashed=True),
        ],
        axes=[_axis("/s"), _axis("s", right=True)],
    )


def replicas_option(
    course: Sequence[Moment], decisions: Sequence[Decision], words: Mapping[str, str]
) -> Option:
    """Replicas that are up and that are to be, as steps, with a mark at each decision.

    `words` names the series: now, target; and the marks: decision.
    """
    shown = [each for each in decisions if course and each.at >= course[0].at]
    target = _line(words["target"], [(m.at, m.replicas_target) for m in course], dashed=True, step=True)
    target["markLine"] = {
        "symbol": "none",
        "silent": True,
        "lineStyle": {"type": "dotted", "opacity": 0.6},
        "label": {"formatter": "{b}", "fontSize": 10},
        "data": [
            {"xAxis": _milliseconds(each.at), "name": f"{each.before} → {each.after}"} for each in shown
        ],
    }
    now = _line(words["now"], [(m.at, m.replicas_now) for m in course], step=True)
    return _times(series=[now, target], axes=[_axis("", whole=True)])


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


def _times(series: list[Option], axes: list[Option]) -> Option:
    return {
        "animation": False,
        "grid": {"left": 8, "right": 20, "top": 34, "bottom": 4, "containLabel": True},
        "legend": {"top": 0, "left": 0, "icon": "roundRect", "itemWidth": 14, "itemHeight": 4},
        "tooltip": {"trigger": "axis"},
        "xAxis": {"type": "time", "splitLine": {"show": False}, "axisLabel": {"hideOverlap": True}},
        "yAxis": axes,
        "series": series,
    }


def _axis(unit: str, right: bool = False, whole: bool = False) -> Option:
    axis: Option = {
        "type": "value",
        "min": 0,
        "axisLabel": {"formatter": f"{{value}} {unit}".strip()},
        "splitLine": {"show": not right},
    }
    return {**axis, "minInterval": 1} if whole else axis


def _line(
    name: str,
    points: Sequence[tuple[datetime, float | None]],
    axis: int = 0,
    area: bool = False,
    dashed: bool = False,
    step: bool = False,
) -> Option:
    line: Option = {
        "name": name,
        "type": "line",
        "yAxisIndex": axis,
        "showSymbol": len(points) < 2,
        "data": [[_milliseconds(at), value] for at, value in points],
        "lineStyle": {"width": 2, "type": "dashed" if dashed else "solid"},
    }
    if area:
        line["areaStyle"] = {"opacity": 0.15}
    if step:
        line["step"] = "end"
    return line


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)
