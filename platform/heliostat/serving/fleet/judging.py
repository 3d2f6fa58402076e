"""Whether a canary does worse than what it stands beside, by the requests of the last minute."""

from collections.abc import Iterable
from dataclasses import dataclass

from heliostat.serving.config import CanaryConfig


@dataclass(frozen=True)
class VersionFigures:
    """What was seen of a version within the last minute; seconds are whole requests', in no order."""

    num_requests: int = 0
    num_errors: int = 0
    end_to_end_seconds: tuple[float, ...] = ()


def merged(figures: Iterable[VersionFigures]) -> VersionFigures:
    """What several gateways, or several versions together, have seen."""
    seen = list(figures)
    return VersionFigures(
        sum(each.num_requests for each in seen),
        sum(each.num_errors for each in seen),
        tuple(seconds for each in seen for seconds in each.end_to_end_seconds),
    )


def why_roll_back(canary: VersionFigures, others: VersionFigures, limits: CanaryConfig) -> str | None:
    """The reason to take a canary's share away, or None; too few requests are no reason.

    Its share of failed requests may be `max_error_rate_increase` above that of the others; its P95 may be
    `max_p95_ratio` times theirs.
    """
    if canary.num_requests < limits.min_requests:
        return None
    rate, usual = _error_rate(canary), _error_rate(others)
    if rate > usual + limits.max_error_rate_increase:
        return f"{rate:.1%} of its requests failed, {usual:.1%} of the others'"
    if len(others.end_to_end_seconds) < limits.min_requests:
        return None
    slow, usually = quantile_of(canary.end_to_end_seconds, 0.95), quantile_of(others.end_to_end_seconds, 0.95)
    if slow > usually * limits.max_p95_ratio:
        return f"its P95 is {slow:.2f} s, the others' {usually:.2f} s"
    return None


def quantile_of(values: Iterable[float], quantile: float) -> float:
    """The nearest-rank quantile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(int(quantile * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def _error_rate(figures: VersionFigures) -> float:
    return figures.num_errors / figures.num_requests if figures.num_requests else 0.0
