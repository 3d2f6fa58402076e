"""The next trials, as Ray Tune asks for them: from the record of a former attempt first, then new ones."""

import logging
from typing import Any

import ray
from ray.tune.search import Searcher

from heliostat.config import Resources
from heliostat.errors import ConfigError
from heliostat.tuning.config import TuneConfig
from heliostat.tuning.population import proposer_of
from heliostat.tuning.proposals import Proposal
from heliostat.tuning.settings import Settings, Space
from heliostat.tuning.trials import Trial, Trials

logger = logging.getLogger(__name__)


class NotWrittenDown:
    """Tune pickles its parts to restore a sweep from them. Ours goes on from its own record, in JSON."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Proposals(NotWrittenDown, Searcher):
    """Gives Tune a new trial when the searcher has one and the cluster has room for it."""

    def __init__(self, space: Space, trials: Trials) -> None:
        """Trials that a former attempt began keep their numbers and their points."""
        super().__init__(metric=space.tune.metric, mode=space.tune.mode)
        self._tune: TuneConfig = space.tune
        self._space = space
        self._trials = trials
        self._proposer = proposer_of(space.tune, space.start.train.max_steps)
        self._next = 0
        self._live: dict[str, int] = {}
        self._without_workers: set[str] = set()
        self._ended = False

    @property
    def num_live(self) -> int:
        """Trials that are going on."""
        return len(self._live)

    def no_more(self) -> None:
        """The sweep ends with the trials there are."""
        self._ended = True

    def suggest(self, trial_id: str) -> Any:
        """What the trial is told; None when there is no room, FINISHED when there are no more."""
        while True:
            if self._ended:
                return Searcher.FINISHED
            if self._is_full():
                return None
            number = self._next
            if not self._proposer.is_ready(number):
                return None
            known = self._trials.get(number)
            proposal = Proposal(known.point, known.piece) if known else self._proposer.propose(number)
            if proposal is None:
                return Searcher.FINISHED
            if known:
                self._proposer.take(number, proposal)
            self._next += 1
            begun = self._begun(number, proposal)
            if begun is None:
                self._proposer.tell(number, None)
                continue
            trial, settings = begun
            self._live[trial_id] = number
            self._without_workers.add(trial_id)
            return {
                "number": number,
                "settings": settings.model_dump(mode="json"),
                "piece": self._piece_of(trial),
                "reports": [dict(each) for each in trial.reports],
                "is_final": trial.is_final,
            }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """It has its workers, so what is free now is free for others."""
        self._without_workers.discard(trial_id)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Tell the searcher; a trial that a scheduler stopped counts with what it had reached."""
        self._without_workers.discard(trial_id)
        number = self._live.pop(trial_id)
        self._proposer.tell(number, None if error or not result else result.get(self._tune.metric))

    def _begun(self, number: int, proposal: Proposal) -> tuple[Trial, Settings] | None:
        """The trial and its settings; None for a combination that cannot be, which is noted and costs
        nothing, and for what failed and was gone on without."""
        known = self._trials.get(number)
        if known and (known.status == "refused" or self._is_gone_on_without(known)):
            return None
        if known and known.is_final:
            return known, self._space.settings_of(known, self._trials)
        trial = self._trials.begin(number, proposal)
        try:
            settings = self._space.settings_of(trial, self._trials)
            require_fit(settings)
        except ConfigError as error:
            self._trials.end(number, "refused", error=str(error).splitlines()[0])
            logger.warning("trial %d is left out: %s", number, str(error).splitlines()[0])
            return None
        self._trials.note_computed(number, computed_of(self._tune, settings))
        return trial, settings

    def _is_gone_on_without(self, trial: Trial) -> bool:
        return trial.status == "failed" and self._trials.has_successors(trial)

    def _piece_of(self, trial: Trial) -> dict[str, Any] | None:
        """What the trial makes of its run, and whose state that begins with."""
        if trial.piece is None:
            return None
        *_, former, _ = (None, *self._trials.path_to(trial))
        return {
            "start": trial.piece.start,
            "until": trial.piece.until,
            "after": former.run if former else None,
            "is_first": former is None or former.point != trial.point,
        }

    def _is_full(self) -> bool:
        most = self._tune.budget.max_concurrent
        if most is not None and len(self._live) >= most:
            return True
        each = self._space.start.train
        free = places(ray.available_resources(), each.resources_per_worker, each.min_workers)
        return free <= len(self._without_workers) if self._live else False

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the sweep's own record of its trials is what lasts."""

    def restore(self, checkpoint_path: str) -> None:
        """As `save`."""


def computed_of(tune: TuneConfig, settings: Settings) -> dict[str, Any]:
    """The field that holds the model's size, if there is one."""
    if tune.fixed is None:
        return {}
    return {tune.fixed.by: getattr(settings.model, tune.fixed.by.partition(".")[2])}


def places(there: dict[str, float], each: Resources, num_workers: int) -> int:
    """Groups of so many workers that fit into the resources of a cluster."""
    asked = {"CPU": each.num_cpus, "GPU": each.num_gpus, "memory": float(each.memory_bytes or 0)}
    fitting = [int((there.get(name, 0) + 1e-6) / amount) for name, amount in asked.items() if amount]
    return min(fitting) // num_workers if fitting else 1


def require_fit(settings: Settings) -> None:
    """Refuse a trial whose workers the cluster can never give.

    Raises:
        ConfigError: says what it asks for.
    """
    from heliostat.errors import ClusterError
    from heliostat.ray_session import require_resources

    train = settings.train
    try:
        require_resources(train.resources_per_worker, train.min_workers, "train.num_workers")
    except ClusterError as error:
        raise ConfigError(str(error)) from None
