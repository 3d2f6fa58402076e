"""What pictures over time have in common: axis, legend, lines. Pure."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

Option = dict[str, Any]


def times(series: list[Option], axes: list[Option]) -> Option:
    """A picture over time, its legend on top."""
    return {
        "animation": False,
        "grid": {"left": 8, "right": 20, "top": 34, "bottom": 4, "containLabel": True},
        "legend": {"top": 0, "left": 0, "icon": "roundRect", "itemWidth": 14, "itemHeight": 4},
        "tooltip": {"trigger": "axis"},
        "xAxis": {"type": "time", "splitLine": {"show": False}, "axisLabel": {"hideOverlap": True}},
        "yAxis": axes,
        "series": series,
    }


def value_axis(unit: str, right: bool = False, whole: bool = False) -> Option:
    """An axis from zero up, with a unit behind its figures."""
    axis: Option = {
        "type": "value",
        "min": 0,
        "axisLabel": {"formatter": f"{{value}} {unit}".strip()},
        "splitLine": {"show": not right},
    }
    return {**axis, "minInterval": 1} if whole else axis


def line(
    name: str,
    points: Sequence[tuple[datetime, float | None]],
    axis: int = 0,
    area: bool = False,
    dashed: bool = False,
    step: bool = False,
) -> Option:
    """A series of (time, value); where nothing was told the line has a gap."""
    drawn: Option = {
        "name": name,
        "type": "line",
        "yAxisIndex": axis,
        "showSymbol": len(points) < 2,
        "data": [[milliseconds(at), value] for at, value in points],
        "lineStyle": {"width": 2, "type": "dashed" if dashed else "solid"},
    }
    if area:
        drawn["areaStyle"] = {"opacity": 0.15}
    if step:
        drawn["step"] = "end"
    return drawn


def milliseconds(at: datetime) -> int:
    """A time as ECharts takes it."""
    return int(at.timestamp() * 1000)
