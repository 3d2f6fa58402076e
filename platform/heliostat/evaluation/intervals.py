"""How sure a score is: its 95 % interval over examples that might have been drawn instead. Pure numpy."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from heliostat.evaluation.metrics import Value

CONFIDENCE = 0.95
DRAWS = 2000
CELLS_AT_ONCE = 4_000_000  # of a table (draws, examples): 32 MB of float64
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Interval:
    """A metric's value and the ends of its interval."""

    value: float
    low: float
    high: float


def bootstrap_interval(sums: np.ndarray, value: Value, draws: int = DRAWS, seed: int = 0) -> Interval:
    """A metric over examples, with its bootstrap 95 % interval.

    Examples are drawn with replacement, their sums together (a loss with its tokens), so that a ratio's
    interval knows of long and short examples. The ends are corrected for bias and skew: BCa, Efron 1987,
    "Better bootstrap confidence intervals"; the acceleration is the jackknife's. A metric that says the same
    of every example gets an interval without width.

    Args:
        sums: (num_examples, num_sums), at least one example.
        value: from sums to the metric's value.
        draws: how many samples are drawn.
        seed: the same seed draws the same samples.
    """
    total = float(value(sums.sum(axis=0)))
    values = value(resampled_sums(sums, draws, seed))
    low, high = _bca_ends(values, total, value(sums.sum(axis=0) - sums))
    return Interval(total, low, high)


def resampled_sums(sums: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """The sums over `draws` samples of all examples with replacement, (draws, num_sums)."""
    generator = np.random.default_rng(seed)
    count = len(sums)
    at_once = max(1, CELLS_AT_ONCE // count)
    parts = []
    for start in range(0, draws, at_once):
        rows = min(at_once, draws - start)
        drawn = generator.integers(0, count, size=(rows, count))
        cells = drawn + count * np.arange(rows)[:, None]
        times = np.bincount(cells.ravel(), minlength=rows * count).reshape(rows, count)
        parts.append(times.astype(np.float64) @ sums)
    return np.concatenate(parts)


def percentile_ends(values: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of bootstrap values; those that are no number are left out."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _bca_ends(values: np.ndarray, total: float, left_out: np.ndarray) -> tuple[float, float]:
    """`left_out` are the values with one example less each."""
    values = values[np.isfinite(values)]
    if not len(values) or np.ptp(values) <= 1e-12 * max(1.0, abs(total)):
        return total, total
    # Half of the equal ones count as below: with few different values the bias would be overstated.
    below = ((values < total).mean() + (values <= total).mean()) / 2
    if not 0 < below < 1:
        return percentile_ends(values)
    bias = _NORMAL.inv_cdf(float(below))
    deviations = np.nanmean(left_out) - left_out[np.isfinite(left_out)]
    spread = float((deviations**2).sum()) ** 1.5
    acceleration = float((deviations**3).sum()) / (6 * spread) if spread else 0.0
    quantiles = []
    for tail in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2):
        shifted = bias + _NORMAL.inv_cdf(tail)
        quantiles.append(_NORMAL.cdf(bias + shifted / (1 - acceleration * shifted)))
    low, high = np.quantile(values, quantiles)
    return float(low), float(high)
