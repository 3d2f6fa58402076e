"""Colours: one for each run wherever it is drawn, and the few that mean something everywhere."""

import zlib
from collections.abc import Iterable

PALETTE = (
    "#2f7ed8",
    "#e8772e",
    "#2ca02c",
    "#c44e9b",
    "#8a6fd1",
    "#c9a200",
    "#17a2b8",
    "#d64550",
    "#7f8c3a",
    "#a0623a",
    "#5b7083",
    "#3f9e7a",
)
"""Told apart on white and on near black, and the first six also by those who see red and green alike."""

BAD = "#d64550"
WARN = "#e0a100"
GOOD = "#2ca02c"
MUTED = "#8d99a6"
BEST_LIGHT = ("#c3ced9", "#8db4da", "#e8772e", "#a84300")
BEST_DARK = ("#36424f", "#3f78ad", "#e8772e", "#ffc27a")
"""From the worst to the best, which stands out from the ground: ordered also in grey."""
HEAT_LIGHT = ("#eef3f8", "#9cc3e6", "#2f7ed8", "#e0a100", "#d64550")
HEAT_DARK = ("#1d2733", "#29527a", "#2f7ed8", "#e0a100", "#e05a64")


def colours_of(ids: Iterable[str]) -> dict[str, str]:
    """A colour for each id by its own hash, so that a run looks the same in every picture; where two in one
    picture would meet, the later one by name takes the next that is free."""
    taken: dict[str, str] = {}
    for each in sorted(set(ids)):
        start = zlib.crc32(each.encode()) % len(PALETTE)
        order = [PALETTE[(start + step) % len(PALETTE)] for step in range(len(PALETTE))]
        free = [colour for colour in order if colour not in taken.values()]
        taken[each] = (free or order)[0]
    return taken


def ink(dark: bool) -> str:
    """Of words inside a picture."""
    return "#d7dde4" if dark else "#31404f"


def faint(dark: bool) -> str:
    """Of lines that only guide the eye."""
    return "rgba(215,221,228,0.18)" if dark else "rgba(49,64,79,0.14)"
