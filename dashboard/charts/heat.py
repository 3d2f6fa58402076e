"""A strip of cells over time: which node, which GPU was busy when."""

from collections.abc import Sequence
from typing import Any

from dashboard.charts.colours import HEAT_DARK, HEAT_LIGHT
from dashboard.charts.numbers import plain

ROW = 26


def heat_strip(
    rows: Sequence[str],
    times: Sequence[str],
    cells: Sequence[Sequence[float | None]],
    *,
    most: float = 100.0,
    unit: str = " %",
    dark: bool = False,
) -> dict[str, Any]:
    """`cells[row][time]`, from 0 to `most`; None is nothing known, and stays empty."""
    data = [
        [column, row, plain(value, 4)]
        for row, values in enumerate(cells)
        for column, value in enumerate(values)
        if plain(value) is not None
    ]
    return {
        "animation": False,
        "grid": {"left": 8, "right": 12, "top": 6, "bottom": 6, "containLabel": True},
        "tooltip": {"trigger": "item", "confine": True, "formatter": f"{{b}}: {{@[2]}}{unit}"},
        "xAxis": {"type": "category", "data": list(times), "axisLabel": {"hideOverlap": True}},
        "yAxis": {"type": "category", "data": list(rows), "inverse": True, "axisTick": {"show": False}}
        | {"axisLabel": {"width": 130, "overflow": "truncate"}},
        "visualMap": {
            "show": False,
            "min": 0,
            "max": most,
            "dimension": 2,
            "inRange": {"color": list(HEAT_DARK if dark else HEAT_LIGHT)},
        },
        "series": [{"type": "heatmap", "data": data, "progressive": 5000, "itemStyle": {"borderWidth": 0}}],
    }


def height_of(num_rows: int) -> int:
    """Pixels that the strip needs."""
    return 44 + ROW * max(num_rows, 1)
