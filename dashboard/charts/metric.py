"""A metric over steps, tokens or time: faint what was measured, bold its average, marks what happened."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dashboard.charts.colours import BAD, GOOD, MUTED, PALETTE, WARN, faint
from dashboard.charts.numbers import place, plain_all, positive
from heliostat.control.curves import Axis, Curve, Mark

MOST_MARKS = 40
"""Of one kind; with more they would be a fence."""
_MARK_COLOURS = {"checkpoint": GOOD, "workers": WARN, "pause": WARN, "resumed": WARN, "gap": BAD}
_WIDE, _FAINT = 2.2, 0.35
_ZOOM = ({"type": "inside"}, {"type": "slider", "height": 22, "bottom": 8})


@dataclass(frozen=True)
class Line:
    """A curve to draw: whose it is in words, its colour, and whether its points are few and each counts, as
    those of an evaluation do."""

    label: str
    curve: Curve
    colour: str = PALETTE[0]
    points: bool = False


@dataclass(frozen=True)
class Look:
    """How a picture looks. `raw` names what was measured in its tooltip; `axis_name` goes below."""

    log: bool = False
    dark: bool = False
    axis: Axis = "step"
    axis_name: str = ""
    raw: str = "raw"
    zoom: bool = False


def metric_chart(
    lines: Sequence[Line], marks: Sequence[Mark] = (), look: Look | None = None
) -> dict[str, Any]:
    """The option of a metric's picture. On a logarithmic axis what is not above zero is left out, and where
    nothing is, the axis stays linear; `hidden_by_log` counts what was left out."""
    look = look or Look()
    log = look.log and any(_has_positive(line.curve) for line in lines)
    series = [each for line in lines for each in _series_of(line, len(lines) == 1, log, look)]
    if series:
        series[0] |= {"markLine": _mark_lines(lines, marks)}
    return {
        "animation": False,
        "grid": {"left": 8, "right": 16, "top": 36, "bottom": 62 if look.zoom else 24, "containLabel": True},
        "legend": {"show": len(lines) > 1 or any(line.points for line in lines), "type": "scroll", "top": 0}
        | {"data": [line.label for line in lines], "itemWidth": 16, "itemHeight": 8},
        "tooltip": {"trigger": "axis", "confine": True, "axisPointer": {"type": "line"}},
        "xAxis": _x_axis(look),
        "yAxis": {
            "type": "log" if log else "value",
            "scale": True,
            "splitLine": {"lineStyle": {"color": faint(look.dark)}},
            "axisLabel": {"hideOverlap": True},
        },
        **({"dataZoom": _ZOOM} if look.zoom else {}),
        "series": series,
    }


def hidden_by_log(lines: Sequence[Line]) -> int:
    """How many points a logarithmic axis cannot show; all of them when the axis stays linear."""
    return sum(int((line.curve.values <= 0).sum()) for line in lines)


def _has_positive(curve: Curve) -> bool:
    return bool((np.nan_to_num(curve.values, nan=-1.0) > 0).any())


def _series_of(line: Line, alone: bool, log: bool, look: Look) -> list[dict[str, Any]]:
    curve, colour = line.curve, line.colour
    x = [place(each) for each in curve.x]

    def data(values: np.ndarray) -> list[list[Any]]:
        told = plain_all(values)
        return [list(pair) for pair in zip(x, positive(told) if log else told, strict=True)]

    bold = {
        "type": "line",
        "name": line.label,
        "data": data(curve.values if line.points else curve.smoothed),
        "showSymbol": line.points or len(x) == 1,
        "symbolSize": 7,
        "connectNulls": line.points,
        "lineStyle": {"width": _WIDE, "color": colour, "type": "dashed" if line.points else "solid"},
        "itemStyle": {"color": colour},
        "z": 4,
    }
    if line.points or np.array_equal(curve.values, curve.smoothed, equal_nan=True):
        return [bold, *_band(line, data, alone)]
    raw = _quiet(f"{line.label} ({look.raw})", data(curve.values), alone)
    raw |= {"lineStyle": {"width": 1, "color": colour, "opacity": _FAINT}, "itemStyle": {"color": colour}}
    return [bold, raw, *_band(line, data, alone)]


def _band(line: Line, data: Any, alone: bool) -> list[dict[str, Any]]:
    """Between the least and the most of each bucket; where a bucket is one point there is nothing between."""
    curve = line.curve
    if curve.num_points <= len(curve.x):
        return []
    low, spread = data(curve.low), data(curve.high - curve.low)
    for under, over in zip(low, spread, strict=True):  # a logarithmic axis may have lost the lower end
        over[1] = None if under[1] is None else over[1]
    nothing = {"lineStyle": {"opacity": 0}, "stack": f"band {line.label}", "stackStrategy": "all"}
    area = {"areaStyle": {"color": line.colour, "opacity": 0.16 if alone else 0.08}}
    below, above = (
        _quiet(f"{line.label} {end}", found, False) for end, found in (("low", low), ("high", spread))
    )
    return [below | nothing, above | nothing | area]


def _quiet(name: str, data: list[list[Any]], told: bool) -> dict[str, Any]:
    """A series that is seen and not pointed at; its tooltip says nothing unless told to."""
    quiet = {"type": "line", "name": name, "data": data, "showSymbol": False, "silent": True, "z": 2}
    return quiet | {"tooltip": {"show": told}, "emphasis": {"disabled": True}}


def _x_axis(look: Look) -> dict[str, Any]:
    return {
        "type": "time" if look.axis == "time" else "value",
        "name": look.axis_name,
        "nameLocation": "middle",
        "nameGap": 26,
        "min": "dataMin",
        "max": "dataMax",
        "splitLine": {"show": False},
        "axisLabel": {"hideOverlap": True, "formatter": "{value} s"}
        if look.axis == "relative"
        else {"hideOverlap": True},
    }


def _mark_lines(lines: Sequence[Line], marks: Sequence[Mark]) -> dict[str, Any]:
    gaps = [
        Mark(x, step, "gap")
        for line in lines
        for x, step in zip(line.curve.gaps_x, line.curve.gaps, strict=True)
    ]
    data = []
    for kind, colour in _MARK_COLOURS.items():
        of_kind = [mark for mark in (*marks, *gaps) if mark.kind == kind]
        every = -(-len(of_kind) // MOST_MARKS) or 1
        style = {
            "color": colour,
            "type": "solid" if kind in ("gap", "resumed") else "dotted",
            "opacity": 0.7,
            "width": 1,
        }
        data += [
            {"xAxis": place(mark.x), "name": f"{kind} {mark.step} {mark.about}".strip(), "lineStyle": style}
            for mark in of_kind[::-every][::-1]
        ]
    quiet = {"symbol": "none", "animation": False, "label": {"show": False}, "silent": False}
    return quiet | {"data": data, "lineStyle": {"color": MUTED}, "tooltip": {"formatter": "{b}"}}
