"""Smoothing and thinning of a metric's points, so that what is drawn is what was measured. Pure numpy.

Smoothing comes first and sees every point; thinning keeps the extremes beside each point that stands for
many. The other way round a spike of one step would be gone, or would look like a trend.
"""

import numpy as np

_BLOCK = 256
"""Points that one matrix product smooths; the carry from block to block is the only loop."""


def smooth(values: np.ndarray, weight: float) -> np.ndarray:
    """Debiased exponential moving average over all finite values, (n,) -> (n,) float64.

    `weight` in [0, 1) is what the past counts for. What is not finite is a gap: NaN in the result, and no
    part of the average. Values that are all the same come back as they are, free of rounding.

    Source: Kingma and Ba 2014 (Adam), section 3, for the debiasing.
    """
    finite = np.isfinite(values)
    kept = values[finite]
    smoothed = np.full(len(values), np.nan)
    if weight <= 0 or len(kept) < 2 or kept.min() == kept.max():
        smoothed[finite] = kept
        return smoothed
    biased = _moving_average(kept, weight)
    smoothed[finite] = biased / -np.expm1(np.arange(1, len(kept) + 1) * np.log(weight))
    return smoothed


def _moving_average(values: np.ndarray, weight: float) -> np.ndarray:
    """y[i] = weight * y[i-1] + (1 - weight) * x[i], y[-1] = 0; (n,) -> (n,)."""
    count = len(values)
    blocks = np.zeros((-(-count // _BLOCK), _BLOCK))
    blocks.ravel()[:count] = values
    ages = np.arange(_BLOCK)[:, None] - np.arange(_BLOCK)[None, :]
    response = np.where(ages >= 0, (1 - weight) * weight ** np.maximum(ages, 0), 0.0)
    averages: np.ndarray = blocks @ response.T
    fading = weight ** np.arange(1, _BLOCK + 1)
    carries = np.zeros(len(blocks))
    carry = 0.0
    for number, end in enumerate(averages[:, -1].tolist()):
        carries[number] = carry
        carry = end + carry * fading[-1]
    averages += carries[:, None] * fading[None, :]
    return averages.ravel()[:count]


def bucket_starts(num_points: int, most: int) -> np.ndarray:
    """Where each of at most `most` buckets begins; the first point has one of its own, to be exact."""
    if num_points <= most:
        return np.arange(num_points)
    edges = 1 + np.arange(most - 1) * (num_points - 1) // (most - 1)
    return np.concatenate([[0], edges]).astype(np.int64)


def extremes(values: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the most finite value of each bucket; NaN where it has none."""
    finite = np.isfinite(values)
    low = np.minimum.reduceat(np.where(finite, values, np.inf), starts)
    high = np.maximum.reduceat(np.where(finite, values, -np.inf), starts)
    low[np.isinf(low)] = np.nan
    high[np.isinf(high)] = np.nan
    return low, high


def last_finite(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The position of each bucket's last finite value; that of its last value where it has none."""
    positions = np.arange(len(values))
    found = np.maximum.reduceat(np.where(np.isfinite(values), positions, -1), starts)
    ends = np.append(starts[1:], len(values)) - 1
    return np.where(found >= starts, found, ends)
