"""A curve in a table's cell: few points, no gaps, none invented."""

import numpy as np

from dashboard.charts.numbers import plain
from heliostat.control.curves import Curve

POINTS = 40


def sparkline(curve: Curve | None, most: int = POINTS) -> list[float]:
    """At most `most` smoothed values, the first and the last among them; [] of nothing."""
    if curve is None:
        return []
    values = curve.smoothed[np.isfinite(curve.smoothed)]
    if not len(values):
        return []
    at = np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))
    return [float(told) for value in values[at].tolist() if (told := plain(value)) is not None]
