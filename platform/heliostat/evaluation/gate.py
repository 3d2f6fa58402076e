"""Whether a model may take another's place: pure arithmetic over their comparison."""

from collections.abc import Mapping, Sequence

from heliostat.errors import EvaluationError
from heliostat.evaluation.comparison import MetricComparison
from heliostat.evaluation.metrics import is_derived

SIGNIFICANT = 0.01
"""A difference with a smaller p is called one."""


def margin_of(comparison: MetricComparison, margins: Mapping[str, float], default_margin: float) -> float:
    """How much worse a metric may be, as a share: by "suite/metric", else "metric", else the default."""
    by_suite = margins.get(f"{comparison.suite}/{comparison.metric}")
    return margins.get(comparison.metric, default_margin) if by_suite is None else by_suite


def failing(
    comparisons: Sequence[MetricComparison], margins: Mapping[str, float], default_margin: float
) -> list[MetricComparison]:
    """The metrics in which b is worse than a by more than their margin, the worst first.

    A gap between groups, or what spoilt prompts cost, is held to a margin of its own or to none: it is often
    near 0, and twice nearly nothing is still nearly nothing.
    """
    held = [each for each in comparisons if not is_derived(each.metric) or _named(each, margins)]
    # so written, a figure that is not a number does not pass either
    failed = [each for each in held if not each.worse_by <= margin_of(each, margins, default_margin)]
    return sorted(failed, key=lambda each: -each.worse_by)


def _named(comparison: MetricComparison, margins: Mapping[str, float]) -> bool:
    return comparison.metric in margins or f"{comparison.suite}/{comparison.metric}" in margins


def check_gate(
    comparisons: Sequence[MetricComparison], margins: Mapping[str, float], default_margin: float
) -> None:
    """Refuse b where any metric is worse than a's by more than its margin, 0.01 being one hundredth of a's.

    Raises:
        EvaluationError: one line; which metric, from what to what, and how many more there are. Also when
            there is nothing that was compared, or a margin is for a metric that was not.
    """
    if not comparisons:
        raise EvaluationError(
            "nothing was compared, so the gate stays shut; evaluate both on the same suites"
        )
    known = {name for each in comparisons for name in (each.metric, f"{each.suite}/{each.metric}")}
    if strange := sorted(set(margins) - known):
        raise EvaluationError(
            f"a margin is given for '{strange[0]}', which was not measured; "
            f"what was: {', '.join(sorted(name for name in known if '/' in name))}"
        )
    failed = failing(comparisons, margins, default_margin)
    if failed:
        worst = failed[0]
        more = f"; {len(failed) - 1} more failed" if len(failed) > 1 else ""
        raise EvaluationError(
            f"{worst.suite}/{worst.metric} is worse: {worst.value_a:.4g} -> {worst.value_b:.4g} "
            f"({worst.worse_by:.2%}, p = {worst.p_value:.2g}, {worst.num_examples} examples), allowed is "
            f"{margin_of(worst, margins, default_margin):.2%}{more}"
        )


def significantly_worse(comparisons: Sequence[MetricComparison]) -> list[MetricComparison]:
    """The metrics in which b is worse than a by more than chance."""
    return [each for each in comparisons if each.worse_by > 0 and each.p_value < SIGNIFICANT]
