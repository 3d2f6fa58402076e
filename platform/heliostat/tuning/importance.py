"""Which of the searched values mattered: the share of the results' variance that each explains."""

from collections.abc import Sequence
from typing import Any

from heliostat.tuning.config import TuneConfig
from heliostat.tuning.trials import Trial

FEWEST_TRIALS = 4
"""With fewer there is nothing to tell apart."""


def common_step(trials: Sequence[Trial]) -> int | None:
    """The last step that every trial with a report has reported: there they can be compared. Those that go on
    from others were chosen, and tell less than the others."""
    own = [trial for trial in trials if trial.reports and not (trial.piece and trial.piece.start)]
    steps = [{int(report["step"]) for report in trial.reports} for trial in own]
    shared = set.intersection(*steps) if steps else set()
    return max(shared) if shared else None


def importances(config: TuneConfig, trials: Sequence[Trial]) -> dict[str, float]:
    """Shares by key, the largest first, 1 together; {} where too few trials can be compared.

    Functional ANOVA over a random forest (Hutter et al., 2014), as Optuna computes it.
    """
    step = common_step(trials)
    values = [
        (trial, report[config.metric])
        for trial in trials
        for report in trial.reports
        if step is not None and int(report["step"]) == step
    ]
    varied = [key for key in config.search_space if len({str(trial.point[key]) for trial, _ in values}) > 1]
    if len(values) < FEWEST_TRIALS or not varied or len({value for _, value in values}) == 1:
        return {}
    if len(varied) == 1:
        return {varied[0]: 1.0}
    found = _importances_of(varied, [(trial.point, value) for trial, value in values])
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _importances_of(keys: list[str], results: list[tuple[dict[str, Any], float]]) -> dict[str, float]:
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions = {key: _distribution([point[key] for point, _ in results]) for key in keys}
    study = optuna.create_study(direction="minimize")
    for point, value in results:
        params = {key: _told(point[key]) for key in keys}
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, value=float(value))
        )
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), params=keys)
    total = sum(found.values()) or 1.0
    return {key: float(share) / total for key, share in found.items()}


def _told(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _distribution(values: list[Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    told = [_told(value) for value in values]
    if any(isinstance(value, str) for value in told):
        return CategoricalDistribution(sorted({str(value) for value in told}))
    low, high = float(min(told)), float(max(told))
    return FloatDistribution(low, high, log=low > 0 and high / low >= 10)
