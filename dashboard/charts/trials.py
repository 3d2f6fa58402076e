"""A sweep's trials: the best so far, trial by trial, and what each did over its steps."""

from collections.abc import Mapping, Sequence
from typing import Any

from dashboard.charts.colours import BAD, GOOD, MUTED, PALETTE, faint
from dashboard.charts.numbers import plain

STATUS_COLOURS = {"finished": PALETTE[0], "running": GOOD, "stopped": MUTED, "failed": BAD, "refused": BAD}


def history_chart(
    attempts: Sequence[tuple[int, float | None, float | None, str]],
    best_name: str,
    statuses: Mapping[str, str],
    dark: bool = False,
) -> dict[str, Any]:
    """Trials in their order: (number, value, best so far, status). `statuses` are the words for those."""
    used = [status for status in statuses if any(each[3] == status for each in attempts)]
    line = {
        "type": "line",
        "name": best_name,
        "step": "end",
        "symbol": "none",
        "data": [[number, plain(best)] for number, _, best, _ in attempts],
        "lineStyle": {"width": 2.2, "color": PALETTE[1]},
        "itemStyle": {"color": PALETTE[1]},
    }
    points = [
        {
            "type": "scatter",
            "name": statuses[status],
            "symbolSize": 10,
            "data": [[number, plain(value)] for number, value, _, each in attempts if each == status],
            "itemStyle": {"color": STATUS_COLOURS.get(status, MUTED), "opacity": 0.9},
        }
        for status in used
    ]
    return {
        "animation": False,
        "grid": {"left": 8, "right": 16, "top": 36, "bottom": 8, "containLabel": True},
        "legend": {"top": 0, "type": "scroll"},
        "tooltip": {"trigger": "item", "confine": True},
        "xAxis": {"type": "value", "min": 0, "minInterval": 1, "splitLine": {"show": False}}
        | {"max": max((each[0] for each in attempts), default=1) or 1},
        "yAxis": _value_axis(dark),
        "series": [line, *points],
    }


def trial_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    best: str | None,
    log: bool = False,
    dark: bool = False,
) -> dict[str, Any]:
    """The metric over steps, a line a trial; the best one is thick and in front."""
    lines = []
    for number, (name, points) in enumerate(curves.items()):
        front = name == best
        data = [[plain(step), plain(value)] for step, value in points]
        colour = PALETTE[1] if front else PALETTE[0] if best else PALETTE[number % len(PALETTE)]
        lines.append(
            {
                "type": "line",
                "name": name,
                "data": [[x, y if not log or (y is not None and y > 0) else None] for x, y in data],
                "showSymbol": len(data) == 1,
                "symbolSize": 6,
                "lineStyle": {"width": 3 if front else 1.4, "color": colour, "opacity": 1 if front else 0.5},
                "itemStyle": {"color": colour},
                "emphasis": {"focus": "series"},
                "z": 5 if front else 2,
            }
        )
    positive = any(y is not None for line in lines for _, y in line["data"])
    return {
        "animation": False,
        "grid": {"left": 8, "right": 16, "top": 12, "bottom": 8, "containLabel": True},
        "tooltip": {"trigger": "item", "confine": True},
        "xAxis": {
            "type": "value",
            "min": 0,
            "splitLine": {"show": False},
            "axisLabel": {"hideOverlap": True},
        },
        "yAxis": _value_axis(dark) | ({"type": "log"} if log and positive else {}),
        "series": lines,
    }


def _value_axis(dark: bool) -> dict[str, Any]:
    return {"type": "value", "scale": True, "splitLine": {"lineStyle": {"color": faint(dark)}}}
