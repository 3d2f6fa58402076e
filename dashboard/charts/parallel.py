"""Parallel coordinates: an axis for each value that was searched, one for the objective, a line a trial."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dashboard.charts.colours import BEST_DARK, BEST_LIGHT, ink
from dashboard.charts.numbers import plain


@dataclass(frozen=True)
class ParallelAxis:
    """One axis: its name, whether it is logarithmic, and its words in order where values are no numbers."""

    name: str
    log: bool = False
    words: tuple[str, ...] = ()


def parallel_chart(
    axes: Sequence[ParallelAxis],
    rows: Sequence[Sequence[float | str | None]],
    *,
    smaller_is_better: bool = True,
    dark: bool = False,
) -> dict[str, Any]:
    """A line for each row, coloured by the last axis, the objective: orange is good. Rows that lack a number
    are left out, and an axis with one that is not above zero stays linear."""
    log = [axis.log and all(_positive(row[n]) for row in rows) for n, axis in enumerate(axes)]
    shown = [[_told(value, bool(axis.words)) for value, axis in zip(row, axes, strict=True)] for row in rows]
    shown = [row for row in shown if all(value is not None for value in row)]
    goals = [row[-1] for row in shown if isinstance(row[-1], int | float)]
    low, high = (min(goals), max(goals)) if goals else (0, 1)
    order = BEST_DARK if dark else BEST_LIGHT
    colours = list(reversed(order)) if smaller_is_better else list(order)
    return {
        "animation": False,
        "parallel": {"left": 48, "right": 60, "top": 44, "bottom": 26},
        "tooltip": {"trigger": "item", "confine": True},
        "visualMap": {
            "show": False,
            "type": "continuous",
            "dimension": len(axes) - 1,
            "min": low,
            "max": high if high > low else low + 1,
            "inRange": {"color": colours},
        },
        "parallelAxis": [_axis(n, axis, log[n], dark) for n, axis in enumerate(axes)],
        "series": [
            {"type": "parallel", "data": shown, "smooth": False, "lineStyle": {"width": 2, "opacity": 0.75}}
        ],
    }


def _axis(number: int, axis: ParallelAxis, log: bool, dark: bool) -> dict[str, Any]:
    kind: dict[str, Any] = {"type": "log" if log else "value", "scale": True}
    if axis.words:
        kind = {"type": "category", "data": list(axis.words)}
    style = {"nameTextStyle": {"color": ink(dark), "width": 110, "overflow": "truncate"}}
    return {"dim": number, "name": axis.name, **kind, **style, "axisLabel": {"color": ink(dark)}}


def _told(value: float | str | None, words: bool) -> float | int | str | None:
    if words:
        return None if value is None else str(value)
    return plain(value) if isinstance(value, int | float) else None


def _positive(value: float | str | None) -> bool:
    return value is None or (isinstance(value, int | float) and value > 0)
