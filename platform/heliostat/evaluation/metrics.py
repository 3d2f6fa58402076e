"""Metrics: pure functions from what was scored to a number. A new one goes into METRICS and is reported."""

from collections.abc import Callable

from heliostat.models.perplexity import Score


def loss(score: Score) -> float:
    """Mean loss of a learned token, in nats."""
    return score.loss


def perplexity(score: Score) -> float:
    """exp of the mean loss: lower is better, 1 is certainty."""
    return score.perplexity


METRICS: dict[str, Callable[[Score], float]] = {"perplexity": perplexity, "loss": loss}


def table_of(scores: dict[str, Score]) -> dict[str, dict[str, float]]:
    """{metric: {model: value}} for every metric."""
    return {
        metric: {model: value_of(score) for model, score in scores.items()}
        for metric, value_of in METRICS.items()
    }
