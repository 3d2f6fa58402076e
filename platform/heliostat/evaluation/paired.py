"""Two models on the same examples: is the difference more than chance? Pure numpy."""

from dataclasses import dataclass

import numpy as np

from heliostat.evaluation.intervals import CELLS_AT_ONCE, percentile_ends, resampled_sums
from heliostat.evaluation.metrics import Value

BOOTSTRAP_DRAWS = 2000
PERMUTATIONS = 9999
ROUNDING = 1e-6  # another batch size or number of threads moves a sum of float32 losses by less


@dataclass(frozen=True)
class Difference:
    """b less a, its 95 % interval, and how often chance alone would differ as much."""

    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    p_value: float


def compare_pairs(a: np.ndarray, b: np.ndarray, value: Value, seed: int = 0) -> Difference:
    """Compare a metric of two models over the same examples, (num_examples, num_sums) each.

    The interval: examples are drawn with replacement, the same for both models (paired bootstrap, Koehn 2004,
    "Statistical significance tests for machine translation evaluation"), its middle 95 %.

    The p-value: if the models were alike, either answer to an example could have been the other's. So pairs
    are swapped at random, and p is the share of swaps with a difference at least as large in either
    direction (approximate randomization, Noreen 1989; Riezler and Maxwell 2005; for means it is the sign-flip
    test). The order that was seen counts as one of the swaps, (hits + 1) / (swaps + 1), which keeps the rate
    of false alarms at or below p (Phipson and Smyth 2010). Differences of rounding are no differences.
    """
    b = _without_rounding(a, b)
    value_a, value_b = float(value(a.sum(axis=0))), float(value(b.sum(axis=0)))
    both = resampled_sums(np.concatenate([a, b], axis=1), BOOTSTRAP_DRAWS, seed)
    width = a.shape[1]
    low, high = percentile_ends(value(both[:, width:]) - value(both[:, :width]))
    difference = value_b - value_a
    return Difference(value_a, value_b, difference, low, high, _p_value(a, b, value, difference, seed))


def _p_value(a: np.ndarray, b: np.ndarray, value: Value, seen: float, seed: int) -> float:
    differ = (a != b).any(axis=1)
    if not differ.any():
        return 1.0
    halfway = (a + b).sum(axis=0) / 2
    half_apart = (b - a)[differ] / 2  # swapping the others changes nothing
    generator = np.random.default_rng(seed)
    at_once = max(1, CELLS_AT_ONCE // len(half_apart))
    hits = 0
    for start in range(0, PERMUTATIONS, at_once):
        rows = min(at_once, PERMUTATIONS - start)
        signs = generator.integers(0, 2, size=(rows, len(half_apart)), dtype=np.int8) * 2.0 - 1.0
        apart = signs @ half_apart
        differences = value(halfway + apart) - value(halfway - apart)
        hits += int((np.abs(differences) >= abs(seen) * (1 - 1e-9)).sum())
    return (hits + 1) / (PERMUTATIONS + 1)


def count_wins(a: np.ndarray, b: np.ndarray, value: Value, higher_is_better: bool) -> tuple[int, int, int]:
    """How many examples b does better on than a, worse, and the same; differences of rounding are none."""
    difference = example_differences(a, b, value) * (1 if higher_is_better else -1)
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    return wins, losses, len(a) - wins - losses


def example_differences(a: np.ndarray, b: np.ndarray, value: Value) -> np.ndarray:
    """b less a of each example, (num_examples,); 0 where they differ by rounding."""
    differences = value(_without_rounding(a, b)) - value(a)
    return np.where(np.isnan(differences), 0.0, differences)


def _without_rounding(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """b, with a's sums where they are the same but for rounding."""
    return np.where(np.abs(a - b) <= ROUNDING * np.maximum(np.abs(a), np.abs(b)), a, b)
