"""The rules for runs: from a run's record, the last points of its loss and its watchers' notes. Pure.

Training watches itself and notes what it finds (`training.watchers`). What is noted is told here in the
same words and by the same thresholds; what nobody is left to note, as a run's driver is gone, by its clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from heliostat.control.alert_rules import ENDED_SECONDS, MORE_MEMORY, is_about_memory, parted
from heliostat.control.alerts import Finding, subject_of
from heliostat.control.series import Tail
from heliostat.control.work_list import TRAINING
from heliostat.records import Run
from heliostat.training.watch_config import WatchConfig
from heliostat.training.watchers import Finding as Note
from heliostat.training.watchers import StallClock, spike_limit

POINTS = 300
"""Of a loss's last ones: the watchers' windows are shorter."""
CALM_STEPS = 10
"""So many losses in a row within the range again end a spike."""
AFTER_THE_NOTE_SECONDS = 60.0
"""A run that lives notes its stall itself, and is given the time to."""
FORGOTTEN_SECONDS = 7 * 24 * 3600.0
"""A run that says it runs and has been silent for so long is one that nobody waits for."""
_CLOCK_SKEW_SECONDS = 2.0
WATCH = WatchConfig()
"""A run's record does not hold how it is watched, as that decides nothing of its result."""
NOT_A_NUMBER = "is not finite"
GO_ON = "start the same command again: it goes on from its last checkpoint"


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run."""

    run: Run
    loss: Tail
    notes: Sequence[Note]
    written_live: bool = True
    """False where its files come to the workspace at its end, as to an object store."""

    @property
    def subject(self) -> str:
        """What its alerts are about."""
        return subject_of("run", self.run.id)

    @property
    def name(self) -> str:
        """As a person knows it."""
        return f"{self.run.config.get('name') or self.run.stage} ({self.run.id})"

    def of_this_attempt(self) -> Tail:
        """The points since the run was started, this time; those of an earlier attempt tell nothing of it."""
        since = self.run.started_at.timestamp() - _CLOCK_SKEW_SECONDS
        kept = ~(self.loss.times < since)  # one without a time counts
        return Tail(self.loss.steps[kept], self.loss.values[kept], self.loss.times[kept])

    def last_note(self, kind: str) -> Note | None:
        """What a watcher noted last."""
        return next((note for note in reversed(self.notes) if note.kind == kind), None)

    def at(self, time: float) -> datetime:
        """A point's time; where it has none, the run's own."""
        if np.isfinite(time):
            return datetime.fromtimestamp(float(time), UTC)
        return self.run.finished_at or self.run.started_at


def run_alerts(facts: RunFacts, now: datetime) -> list[Finding]:
    """All that is wrong with a run: NanLoss, LossSpike, TrainingStalls, OutOfMemory, TrainingFailed or
    StageFailed. Of a sweep's trial only that it stands still: it may fail, which is what a sweep is for."""
    run = facts.run
    if run.stage not in TRAINING:
        return [] if run.parent else _failure(facts)
    stalled = stall_alerts(facts, now)
    if run.parent:
        return stalled
    nan = nan_alerts(facts)
    return [*stalled, *nan, *spike_alerts(facts), *([] if nan else _failure(facts))]


def nan_alerts(facts: RunFacts) -> list[Finding]:
    """NanLoss: the last losses are no numbers, or the run ended for that."""
    run, tail = facts.run, facts.of_this_attempt()
    failed_for_it = run.status == "failed" and NOT_A_NUMBER in (run.error or "")
    note = facts.last_note("not_finite")
    stopped_for_it = run.status in ("failed", "stopped") and note is not None and note.severity == "stop"
    first = _first_of_the_last_wrong(tail.values)
    if run.status == "finished" or not (failed_for_it or stopped_for_it or first is not None):
        return []
    mend = "lower learning_rate, use layout.precision: bf16 or fp32, or leave the step's documents out"
    if failed_for_it:
        text, mend = parted(run.error or "", mend)
    elif note is not None:
        text, mend = parted(note.message, mend)
    else:
        text = f"its loss is no number from step {int(tail.steps[first or 0])} on"
    since = run.finished_at or run.started_at
    if first is not None:
        since = facts.at(tail.times[first])
    return [_finding(facts, "NanLoss", text, mend, since)]


def spike_alerts(facts: RunFacts) -> list[Finding]:
    """LossSpike: noted by the run's watcher, and the loss has not come down since."""
    run, note = facts.run, facts.last_note("loss_spike")
    stopped_for_it = run.status in ("failed", "stopped") and note is not None and note.severity == "stop"
    if note is None or not (run.status == "running" or stopped_for_it):
        return []
    at = np.flatnonzero(facts.loss.steps == note.step)
    if not len(at):  # long ago, or made again since
        return []
    place, watch = int(at[-1]), WATCH.loss_spike
    before = facts.loss.values[max(0, place - watch.window) : place]
    before = before[np.isfinite(before)]
    after = facts.loss.values[place + 1 :][-CALM_STEPS:]
    calm = len(before) and bool((after <= spike_limit(before.tolist(), watch.factor)).all())
    if len(after) == CALM_STEPS and calm:
        return []
    text, mend = parted(note.message, "lower learning_rate or max_gradient_norm, or raise warmup_ratio")
    return [_finding(facts, "LossSpike", text, mend, facts.at(facts.loss.times[place]))]


def stall_alerts(facts: RunFacts, now: datetime) -> list[Finding]:
    """TrainingStalls: no step for longer than the run's own watch allows."""
    run, tail = facts.run, facts.of_this_attempt()
    if run.status != "running":
        return []
    step = int(tail.steps[-1]) if len(tail.steps) else 0
    since = facts.at(tail.times[-1]) if len(tail.times) else run.started_at
    silent = (now - since).total_seconds()
    note = facts.last_note("stall")
    if silent > FORGOTTEN_SECONDS:
        return []
    if note is not None and note.step == step:
        text, mend = parted(note.message, GO_ON)
    elif facts.written_live and silent > _limit_seconds(facts, tail) + AFTER_THE_NOTE_SECONDS:
        where = f"after step {step}" if step else "before the first step"
        text = f"no step for long, {where}, and the run does not say so itself: its driver may be gone"
        mend = f"look whether it still runs; if not, {GO_ON}"
    else:
        return []
    return [_finding(facts, "TrainingStalls", text, mend, since)]


def _limit_seconds(facts: RunFacts, tail: Tail) -> float:
    """How long the run may be silent, by the clock that it uses itself; one whose steps are made, or whose
    number of steps is not known, may be publishing its model."""
    clock = StallClock(WATCH.stall, facts.run.started_at.timestamp())
    for step, time in zip(tail.steps.tolist(), tail.times.tolist(), strict=True):
        if np.isfinite(time):
            clock.step_done(step, time)
    most = facts.run.config.get("max_steps")
    last = int(tail.steps[-1]) if len(tail.steps) else 0
    if isinstance(most, int) and last < most:
        return clock.limit_seconds()
    return max(clock.limit_seconds(), 2 * WATCH.stall.first_step_seconds)


def _failure(facts: RunFacts) -> list[Finding]:
    run = facts.run
    if run.status != "failed":
        return []
    words = run.error or "no reason told"
    if is_about_memory(words):
        rule, otherwise = "OutOfMemory", MORE_MEMORY
    else:
        rule, otherwise = ("TrainingFailed" if run.stage in TRAINING else "StageFailed"), GO_ON
    text, mend = parted(words, otherwise)
    found = _finding(facts, rule, text, mend, run.finished_at or run.started_at)
    return [found.model_copy(update={"after_seconds": ENDED_SECONDS})]


def _first_of_the_last_wrong(values: np.ndarray) -> int | None:
    """Where the values that are no numbers begin with which the series ends; None where it ends well."""
    good = np.flatnonzero(np.isfinite(values))
    first = int(good[-1]) + 1 if len(good) else 0
    return first if first < len(values) else None


def _finding(facts: RunFacts, rule: str, text: str, mend: str, since: datetime) -> Finding:
    return Finding(rule=rule, subject=facts.subject, text=f"{facts.name}: {text}", mend=mend, since=since)
