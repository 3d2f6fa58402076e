"""Speed, memory and cost from what was timed: percentiles and means with intervals. Pure numpy.

These depend on the machine and what else it does, so they are reported and not compared by example.
"""

from typing import Any

import numpy as np

from heliostat.evaluation.intervals import percentile_ends
from heliostat.evaluation.requests import Answer
from heliostat.evaluation.suite_config import EfficiencySuite

DRAWS = 1000
PERCENTILES = (50, 95, 99)
MILLION = 1_000_000


def score_speed(answer: Answer, suite: EfficiencySuite) -> dict[str, float | list[float]]:
    """What one answer says: seconds, and the sums of rates."""
    tokens, seconds, first = (float(answer[key]) for key in ("tokens", "seconds", "first_token_seconds"))
    scores: dict[str, float | list[float]] = {"latency_seconds": seconds, "first_token_seconds": first}
    if tokens > 1 and seconds > first:
        scores["tokens_per_second"] = [tokens - 1, seconds - first]
    if "kwh" in answer and tokens:
        kwh = float(answer["kwh"])
        scores["kwh_per_million_tokens"] = [MILLION * kwh, tokens]
        scores["grams_co2_per_million_tokens"] = [MILLION * kwh * suite.grams_co2_per_kwh, tokens]
        scores["memory_bytes"] = float(answer["memory_bytes"])
    return scores


def percentile_scores(values: np.ndarray, name: str) -> dict[str, dict[str, Any]]:
    """Percentiles of seconds (num_examples,), each with its bootstrap interval."""
    generator = np.random.default_rng(0)
    samples = values[generator.integers(0, len(values), size=(DRAWS, len(values)))]
    found = {}
    for percent in PERCENTILES:
        low, high = percentile_ends(np.percentile(samples, percent, axis=1))
        found[f"{name}_p{percent}"] = {
            "value": float(np.percentile(values, percent)),
            "low": low,
            "high": high,
            "higher_is_better": False,
            "num_examples": len(values),
        }
    return found
