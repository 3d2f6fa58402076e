"""Where a thing came from and what became of it, as a graph in columns from left to right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboard.charts.colours import MUTED, PALETTE, ink

KIND_COLOURS = {
    "source": "#7f8c3a",
    "dataset": "#2ca02c",
    "tokenized": "#3f9e7a",
    "run": "#5b7083",
    "model": "#2f7ed8",
    "adapter": "#17a2b8",
    "quantized": "#8a6fd1",
    "export": "#8a6fd1",
    "report": "#c9a200",
    "version": "#e8772e",
    "endpoint": "#c44e9b",
    "gone": "#8d99a6",
}
ROW = 74
STAGGER = 0.3


@dataclass(frozen=True)
class GraphNode:
    """A thing: its id, what it is, what is written below it; `here` is the one that was asked for."""

    id: str
    kind: str
    label: str
    about: str = ""
    here: bool = False


def layers_of(ids: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The column of each: one behind the last of what it was made from. A circle, which records should not
    have, ends where it was entered."""
    above: dict[str, list[str]] = {each: [] for each in ids}
    for source, made in edges:
        if source in above and made in above:
            above[made].append(source)
    layers: dict[str, int] = {}

    def layer(each: str, path: tuple[str, ...]) -> int:
        if each not in layers:
            parents = [parent for parent in above[each] if parent not in path]
            layers[each] = 1 + max((layer(parent, (*path, each)) for parent in parents), default=-1)
        return layers[each]

    for each in ids:
        layer(each, (each,))
    return layers


def lineage_chart(
    nodes: Sequence[GraphNode],
    edges: Sequence[tuple[str, str]],
    kinds: Mapping[str, str],
    *,
    dark: bool = False,
    upright: bool = False,
) -> dict[str, Any]:
    """The option; `edges` go from what was there first to what was made of it. `kinds` are the kinds' names.
    `upright` is for narrow screens: from top to bottom."""
    layers = layers_of([node.id for node in nodes], edges)
    rows: dict[int, list[str]] = {}
    for node in nodes:
        rows.setdefault(layers[node.id], []).append(node.id)
    most = max(2, *(len(each) for each in rows.values())) if rows else 2
    used = list(dict.fromkeys(node.kind for node in nodes))
    data = []
    for node in nodes:
        across, here = layers[node.id], rows[layers[node.id]]
        down = (here.index(node.id) + 0.5) * most / len(here)
        down += STAGGER * (-1) ** across * (len(here) == 1)  # or long names in a row would meet
        data.append(_node(node, [down, -across] if upright else [across, -down], used, dark))
    axis = {"type": "value", "show": False, "scale": True}
    depth, breadth = [-0.5, max(rows, default=0) + 0.5], [0, most]
    flipped_depth, flipped_breadth = [-depth[1], -depth[0]], [-most, 0]
    x, y = (breadth, flipped_depth) if upright else (depth, flipped_breadth)
    return {
        "animation": False,
        "grid": {"left": 4, "right": 4, "top": 34, "bottom": 4},
        "legend": {"top": 0, "type": "scroll", "data": [kinds.get(kind, kind) for kind in used]},
        "tooltip": {"trigger": "item", "confine": True, "formatter": "{b}"},
        "xAxis": {**axis, "min": x[0], "max": x[1]},
        "yAxis": {**axis, "min": y[0], "max": y[1]},
        "series": [
            {
                "type": "graph",
                "coordinateSystem": "cartesian2d",
                "data": data,
                "links": [_link(source, made, layers) for source, made in edges],
                "categories": [
                    {
                        "name": kinds.get(kind, kind),
                        "itemStyle": {"color": KIND_COLOURS.get(kind, PALETTE[0])},
                    }
                    for kind in used
                ],
                "edgeSymbol": ["none", "arrow"],
                "edgeSymbolSize": 7,
                "lineStyle": {"color": MUTED, "width": 1.4, "opacity": 0.8},
                "emphasis": {"focus": "adjacency"},
                "selectedMode": "single",
            }
        ],
    }


def height_of(nodes: Sequence[GraphNode], edges: Sequence[tuple[str, str]], upright: bool = False) -> int:
    """Pixels that the graph needs."""
    layers = list(layers_of([node.id for node in nodes], edges).values())
    across = max(map(layers.count, layers), default=1)
    deep = max(layers, default=0) + 1
    return 60 + ROW * (deep if upright else max(across, 2))


def _link(source: str, made: str, layers: Mapping[str, int]) -> dict[str, Any]:
    """Straight to the next column; around what lies between where it is further."""
    far = layers.get(made, 0) - layers.get(source, 0) > 1
    return {"source": source, "target": made, "lineStyle": {"curveness": 0.28 if far else 0.04}}


def _node(node: GraphNode, place: list[float], used: list[str], dark: bool) -> dict[str, Any]:
    edge = {"borderColor": ink(dark), "borderWidth": 3} if node.here else {}
    label = {
        "show": True,
        "position": "bottom",
        "distance": 5,
        "formatter": node.label.replace("{", "(").replace("}", ")"),
        "color": ink(dark),
        "fontSize": 11,
        "fontWeight": "bold" if node.here else "normal",
        "width": 118,
        "overflow": "truncate",
    }
    return {
        "id": node.id,
        "name": f"{node.label}: {node.about}" if node.about else node.label,
        "value": place,
        "category": used.index(node.kind),
        "symbol": "roundRect" if node.kind not in ("run", "endpoint") else "circle",
        "symbolSize": 22 if node.here else 17,
        "label": label,
        **({"itemStyle": edge} if edge else {}),
    }
