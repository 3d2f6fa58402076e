"""Bars: one value each with its interval, parts of a whole, steps of a funnel, lengths before and after."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from dashboard.charts.colours import BAD, PALETTE, faint, ink
from dashboard.charts.numbers import plain, plain_all

ROW = 30
"""Pixels for a bar with its gap."""
MARGIN = 70
LABEL_WIDTH = 150


def height_of(num_bars: int, legend: bool = False) -> int:
    """Pixels that lying bars need."""
    return MARGIN + ROW * max(num_bars, 1) + 24 * legend


def bar_chart(
    labels: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    *,
    dark: bool = False,
    stacked: bool = False,
    colours: Sequence[str] = PALETTE,
    unit: str = "",
) -> dict[str, Any]:
    """Lying bars, the first label on top; several series side by side, or stacked as parts of a whole."""
    return {
        "animation": False,
        "grid": {
            "left": 8,
            "right": 48,
            "top": 32 if len(series) > 1 else 8,
            "bottom": 8,
            "containLabel": True,
        },
        "legend": {"show": len(series) > 1, "top": 0, "type": "scroll", "itemWidth": 14},
        "tooltip": {"trigger": "axis", "axisPointer": {"type": "shadow"}, "confine": True},
        "xAxis": {
            "type": "value",
            "splitLine": {"lineStyle": {"color": faint(dark)}},
            "axisLabel": {"hideOverlap": True, "formatter": f"{{value}}{unit}"},
        },
        "yAxis": _labels(labels),
        "series": [
            {
                "type": "bar",
                "name": name,
                "data": plain_all(values),
                "barMaxWidth": 22,
                "itemStyle": {"color": colours[number % len(colours)], "borderRadius": 2},
                **({"stack": "whole"} if stacked else {}),
                **({} if len(series) > 1 else {"label": _end_label(dark, unit)}),
            }
            for number, (name, values) in enumerate(series.items())
        ],
    }


def interval_chart(
    labels: Sequence[str],
    values: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    *,
    dark: bool = False,
    colours: Sequence[str] = (),
) -> dict[str, Any]:
    """Points with the ends of their intervals, a line each: what overlaps may be chance."""
    shown = [colours[n] if n < len(colours) else PALETTE[0] for n in range(len(labels))]
    ends = [
        {
            "type": "line",
            "data": [[plain(low), label], [plain(high), label]],
            "symbol": "rect",
            "symbolSize": [2, 12],
            "lineStyle": {"width": 2, "color": colour},
            "itemStyle": {"color": colour},
            "tooltip": {"show": False},
            "silent": True,
        }
        for label, (low, high), colour in zip(labels, intervals, shown, strict=True)
    ]
    points = {
        "type": "scatter",
        "data": [
            {"value": [plain(value), label], "itemStyle": {"color": colour}}
            for label, value, colour in zip(labels, values, shown, strict=True)
        ],
        "symbolSize": 11,
        "label": {"show": True, "position": "top", "formatter": "{@[0]}", "color": ink(dark)},
        "z": 5,
    }
    return {
        "animation": False,
        "grid": {"left": 8, "right": 28, "top": 22, "bottom": 8, "containLabel": True},
        "tooltip": {"trigger": "item", "confine": True},
        "xAxis": {"type": "value", "scale": True, "splitLine": {"lineStyle": {"color": faint(dark)}}},
        "yAxis": _labels(labels),
        "series": [points, *ends],
    }


def funnel_chart(
    steps: Sequence[tuple[str, int, int]], kept: str, dropped: str, dark: bool = False
) -> dict[str, Any]:
    """Documents behind each step: (name, kept, dropped here), the first step on top."""
    series = {kept: [each[1] for each in steps], dropped: [each[2] for each in steps]}
    chart = bar_chart([each[0] for each in steps], series, dark=dark, stacked=True, colours=(PALETTE[0], BAD))
    chart["series"][0]["label"] = {"show": True, "position": "insideLeft", "color": "#ffffff"}
    return chart


def histogram_chart(
    edges: Sequence[float], counts: Mapping[str, Sequence[int]], name: str = "", dark: bool = False
) -> dict[str, Any]:
    """How many have a length, before and after: one more edge than counts; the last bin is open."""
    bins = [f"{low:,.0f}–{high:,.0f}" for low, high in pairwise(edges)]
    if bins:
        bins[-1] = f"≥ {edges[-2]:,.0f}"
    return {
        "animation": False,
        "grid": {"left": 8, "right": 16, "top": 32, "bottom": 24 if name else 8, "containLabel": True},
        "legend": {"show": len(counts) > 1, "top": 0},
        "tooltip": {"trigger": "axis", "axisPointer": {"type": "shadow"}, "confine": True},
        "xAxis": {"type": "category", "data": bins, "name": name, "nameLocation": "middle", "nameGap": 28}
        | {"axisLabel": {"hideOverlap": True}},
        "yAxis": {"type": "value", "splitLine": {"lineStyle": {"color": faint(dark)}}},
        "series": [
            {
                "type": "bar",
                "name": each,
                "data": plain_all(values),
                "barGap": "-100%",
                "barCategoryGap": "8%",
                "itemStyle": {"color": colour, "opacity": 0.35 if number == 0 and len(counts) > 1 else 0.9},
            }
            for number, ((each, values), colour) in enumerate(
                zip(counts.items(), (BAD, *PALETTE) if len(counts) > 1 else PALETTE, strict=False)
            )
        ],
    }


def _labels(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "category",
        "data": list(labels),
        "inverse": True,
        "axisTick": {"show": False},
        "axisLabel": {"width": LABEL_WIDTH, "overflow": "truncate", "interval": 0},
    }


def _end_label(dark: bool, unit: str) -> dict[str, Any]:
    return {"show": True, "position": "right", "color": ink(dark), "formatter": f"{{c}}{unit}"}
