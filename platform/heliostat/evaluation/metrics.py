"""Metrics: from the sums over examples to a value, and whether more of it is better.

Every metric is a function of sums over the examples. So its value over any choice of them, a bootstrap
sample or one half of a permuted pair, is that function of another sum, and thousands are one matrix product.
"""

import math
from collections.abc import Callable

import numpy as np

Value = Callable[[np.ndarray], np.ndarray]
"""From sums (..., num_sums) to values (...)."""

MAXIMUM_EXPONENT = 700.0
LOWER_IS_BETTER = (
    "perplexity",
    "loss",
    "bits_per_byte",
    "gap",
    "drop",
    "toxicity",
    "seconds",
    "bytes",
    "kwh",
)
OF_THE_MACHINE = ("_seconds", "_per_second", "memory_bytes", "kwh", "grams_co2")
DERIVED = ("_gap", "_lost_to_")
BLEU_ORDER = 4
CHRF_ORDER = 6
CHRF_BETA = 2.0


def ratio(sums: np.ndarray) -> np.ndarray:
    """Sum of numerators by sum of denominators: a mean where each denominator is 1. (..., 2) -> (...)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def perplexity(sums: np.ndarray) -> np.ndarray:
    """exp of the mean loss in nats, cut off where a float ends. (..., 2) -> (...)."""
    return np.asarray(np.exp(np.minimum(ratio(sums), MAXIMUM_EXPONENT)))


def bits(sums: np.ndarray) -> np.ndarray:
    """The mean loss in bits. (..., 2) -> (...)."""
    return ratio(sums) / math.log(2)


def gap(sums: np.ndarray) -> np.ndarray:
    """The best group's mean less the worst group's; (numerator, denominator) of each group in turn.

    (..., 2 * num_groups) -> (...). A group that a bootstrap sample happens to leave out does not count.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums[..., 0::2] / sums[..., 1::2]
    seen = ~np.isnan(means)
    best = np.where(seen, means, -np.inf).max(axis=-1)
    return np.asarray(best - np.where(seen, means, np.inf).min(axis=-1))


def bleu(sums: np.ndarray) -> np.ndarray:
    """Corpus BLEU in 0..100 as sacrebleu has it: 4-grams, brevity penalty, exponential smoothing.

    Sums: length of the outputs, of the references, then matches and totals of 1- to 4-grams.
    (..., 10) -> (...). Papineni et al. 2002; smoothing 3 of Chen and Cherry 2014.
    """
    length, reference = sums[..., 0], sums[..., 1]
    matches, totals = sums[..., 2 : 2 + BLEU_ORDER], sums[..., 2 + BLEU_ORDER :]
    empty = matches == 0
    smoothed = np.where(empty, 0.5 ** np.cumsum(empty, axis=-1), matches)
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.log(100 * smoothed / totals)
        penalty = np.where(length < reference, np.exp(1 - reference / length), 1.0)
        value = penalty * np.exp(logs.mean(axis=-1))
    # no output long enough for a 4-gram, or not one word right: 0, as sacrebleu says
    return np.where((totals > 0).all(axis=-1) & (matches[..., 0] > 0) & (length > 0), value, 0.0)


def chrf(sums: np.ndarray) -> np.ndarray:
    """Corpus chrF2 in 0..100 as sacrebleu has it: character 6-grams, recall counts twice.

    Sums: for each order the n-grams of the outputs, of the references, and their matches.
    (..., 18) -> (...). Popović 2015.
    """
    output, reference, matches = sums[..., 0::3], sums[..., 1::3], sums[..., 2::3]
    counted = (output > 0) & (reference > 0)
    orders = counted.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(counted, matches / output, 0).sum(axis=-1) / orders
        recall = np.where(counted, matches / reference, 0).sum(axis=-1) / orders
        weight = CHRF_BETA**2
        value = 100 * (1 + weight) * precision * recall / (weight * precision + recall)
    return np.asarray(np.nan_to_num(value, nan=0.0))


def value_of(metric: str) -> Value:
    """How a metric's sums become its value; by its name, so that a report's lines say all there is."""
    if metric.endswith("perplexity"):
        return perplexity
    if metric.endswith("_gap"):
        return gap
    exact: dict[str, Value] = {"bleu": bleu, "chrf": chrf, "bits_per_byte": bits}
    return exact.get(metric, ratio)


def higher_is_better(metric: str) -> bool:
    """Whether more of a metric is better; by what its name says it is."""
    return not any(part in metric for part in LOWER_IS_BETTER)


def of_the_machine(metric: str) -> bool:
    """Whether it says as much of the machine, and what else it did, as of the model."""
    return any(part in metric for part in OF_THE_MACHINE)


def is_derived(metric: str) -> bool:
    """Whether it is a difference of other scores, often near 0, of which a share means little."""
    return any(part in metric for part in DERIVED)
