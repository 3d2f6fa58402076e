"""What became of each trial, written down as it goes: a sweep that is killed goes on from these records."""

import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError

from heliostat.errors import ArtifactError
from heliostat.records import Record, first_problem
from heliostat.storage import Storage
from heliostat.training.change_config import Change
from heliostat.tuning.proposals import PieceOfRun, Point, Proposal

Report = dict[str, float]
"""A trial's figures behind a step: `step`, `tokens` and `seconds` (its own so far) and the metric's."""
TrialStatus = Literal["running", "finished", "stopped", "failed", "refused"]
FINAL: tuple[TrialStatus, ...] = ("finished", "stopped", "refused")
"""What is not tried again. A trial that failed is: what it failed of may be mended."""


class Trial(Record):
    """One trial. `artifact` is the id of what it trained, `run` that of its training run."""

    number: int
    point: Point
    status: TrialStatus = "running"
    reports: tuple[Report, ...] = ()
    artifact: str | None = None
    artifact_uri: str | None = None
    run: str | None = None
    error: str | None = None
    piece: PieceOfRun | None = None
    """What of the run this trial makes, where that is not all."""
    computed: dict[str, Any] = Field(default_factory=dict)
    """What was not searched but follows from the point, such as a field that holds the model's size."""

    @property
    def is_final(self) -> bool:
        """Whether it is not tried again."""
        return self.status in FINAL

    @property
    def steps(self) -> int:
        """Steps it has reported."""
        return int(self.reports[-1]["step"]) if self.reports else 0

    @property
    def tokens(self) -> int:
        """Tokens it has been trained on."""
        return int(self.reports[-1]["tokens"]) if self.reports else 0

    def makes(self, step: float) -> bool:
        """Whether a step of its run is its own, and not another trial's."""
        return self.piece is None or self.piece.start < step <= self.piece.until

    def value(self, metric: str) -> float | None:
        """The metric behind its last step; None before the first report."""
        return self.reports[-1].get(metric) if self.reports else None


def changes_on(path: Sequence[Trial]) -> list[Change]:
    """What changes between the pieces of a run."""
    return [
        Change(
            after_step=later.piece.start, **{key.partition(".")[2]: later.point[key] for key in later.point}
        )
        for earlier, later in itertools.pairwise(path)
        if later.piece and later.point != earlier.point
    ]


class Trials:
    """All trials of a sweep, each a small JSON file in the sweep's folder, replaced whole at each change."""

    def __init__(self, storage: Storage, folder: str) -> None:
        """Read what a former attempt left."""
        self._storage = storage
        self._folder = folder
        self._lock = threading.Lock()
        self._trials = {trial.number: trial for trial in self._read()}

    def __iter__(self) -> Iterator[Trial]:
        """In the order of their numbers."""
        return iter([self._trials[number] for number in sorted(self._trials)])

    def get(self, number: int) -> Trial | None:
        """The trial of a number, if it has begun."""
        return self._trials.get(number)

    @property
    def tokens(self) -> int:
        """Trained on, over all trials."""
        return sum(trial.tokens for trial in self)

    def path_to(self, trial: Trial) -> list[Trial]:
        """Those whose pieces a trial's run is made of, the first one first; the trial is the last."""
        path = [trial]
        while path[0].piece and path[0].piece.after is not None:
            path.insert(0, self._trials[path[0].piece.after])
        return path

    def begin(self, number: int, proposal: Proposal) -> Trial:
        """A trial that is tried for the first time, or again."""
        known = self._trials.get(number)
        trial = Trial(number=number, point=proposal.point, piece=proposal.piece)
        if known:
            trial = trial.model_copy(update={"reports": known.reports, "run": known.run})
        return self._write(trial)

    def note_computed(self, number: int, computed: dict[str, Any]) -> None:
        """Note what follows from a trial's point."""
        self._write(self._trials[number].model_copy(update={"computed": computed}))

    def has_successors(self, trial: Trial) -> bool:
        """Whether others have gone on from its generation, so that nobody would go on from it any more."""
        return trial.piece is not None and any(
            other.piece is not None and other.piece.start >= trial.piece.until for other in self
        )

    def add_report(self, number: int, report: Report, run: str | None = None) -> None:
        """Note what a trial says of a step; what it repeats after a restart is noted once."""
        trial = self._trials[number]
        if not trial.is_final and report["step"] > trial.steps:
            changes = {"reports": (*trial.reports, report), "run": run or trial.run}
            self._write(trial.model_copy(update=changes))

    def end(self, number: int, status: TrialStatus, **facts: str | None) -> None:
        """Note how a trial ended, once."""
        trial = self._trials[number]
        if not trial.is_final:
            self._write(trial.model_copy(update={"status": status, **facts}))

    def _write(self, trial: Trial) -> Trial:
        with self._lock:
            self._trials[trial.number] = trial
            content = trial.model_dump_json(indent=1).encode()
            self._storage.write_bytes(f"{self._folder}/{trial.number:05d}.json", content)
        return trial

    def _read(self) -> Iterator[Trial]:
        for name in self._storage.list(self._folder):
            if not name.endswith(".json"):
                continue
            try:
                yield Trial.model_validate_json(self._storage.read_bytes(f"{self._folder}/{name}"))
            except ValidationError as error:
                raise ArtifactError(
                    f"{self._storage.uri(f'{self._folder}/{name}')}: not a trial of this version: "
                    f"{first_problem(error)}; delete the file to try it again"
                ) from None
