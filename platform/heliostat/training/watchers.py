"""What a run's metrics say about its health. Pure: knows numbers, not torch or Ray.

`Watchers` is fed every step's metrics and answers with findings; `StallClock` is asked from outside, as a run
that stands still says nothing. A finding is told once an episode, and never for a step that was seen before:
a run that goes on from a checkpoint repeats some.
"""

import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from heliostat.training.watch_config import (
    GradientNormWatch,
    LossSpikeWatch,
    StallWatch,
    StragglerWatch,
    WatchConfig,
)

Metrics = Mapping[str, float]

NORMAL_QUARTILE = 1.4826  # a normal distribution's deviation over its median absolute deviation
NORMAL_TENTH = 1.2816  # its 90th percentile, in deviations
LEAST_DEVIATION = 0.01  # nats: a loss that moves less has nothing to say
MOST_SKIPPED_STEPS = 50  # fp16's loss scale starts at 2**16 and halves at each step it leaves out


@dataclass(frozen=True)
class Finding:
    """Something a person should know about a run: one line, with what is wrong, where and how to mend it."""

    kind: str
    step: int
    message: str
    severity: Literal["warn", "stop"]


class Watcher(Protocol):
    """Looks at one thing, step by step."""

    def look(self, step: int, ranks: Sequence[Metrics]) -> str | None:
        """The message of a new finding, or None. The first rank's loss and gradient norm are everyone's."""


class LossSpike:
    """A loss far above the median of the steps before it."""

    def __init__(self, config: LossSpikeWatch) -> None:
        self._factor = config.factor
        self._losses: deque[float] = deque(maxlen=config.window)
        self._within = False

    def look(self, step: int, ranks: Sequence[Metrics]) -> str | None:
        """Waits until the window is full: a loss falls too fast at first to have a median."""
        loss, before = ranks[0]["loss"], list(self._losses)
        if not math.isfinite(loss):
            return None
        self._losses.append(loss)
        if len(before) < (self._losses.maxlen or 0):
            return None
        median = statistics.median(before)
        was_within, self._within = self._within, loss > spike_limit(before, self._factor)
        if was_within or not self._within:
            return None
        return (
            f"loss {loss:.4g} at step {step} is far above the median of the {len(before)} steps before it, "
            f"{median:.4g}; look at that step's documents, and if it does not come down by itself, lower "
            "learning_rate or max_gradient_norm, or raise warmup_ratio"
        )


def spike_limit(before: list[float], factor: float) -> float:
    """The loss above which a step leaves the range of the steps before it."""
    median = statistics.median(before)
    return median + factor * _deviation(before, median)


def _deviation(values: list[float], median: float) -> float:
    """A standard deviation that a few spikes do not change, of the values' upper side where that is wider:
    the losses of small batches are skewed, and a falling loss has its older values above."""
    both = NORMAL_QUARTILE * statistics.median(abs(value - median) for value in values)
    upper = (sorted(values)[int(0.9 * (len(values) - 1))] - median) / NORMAL_TENTH
    return max(both, upper, LEAST_DEVIATION)


class GradientNorm:
    """A gradient norm that stays too small or too large.

    Near a loss of zero gradients vanish in proportion to it, as they should: what is left to learn is small.
    """

    def __init__(self, config: GradientNormWatch) -> None:
        self._config = config
        self._norms: deque[float] = deque(maxlen=config.steps)
        self._losses: deque[float] = deque(maxlen=config.steps)
        self._within = ""

    def look(self, step: int, ranks: Sequence[Metrics]) -> str | None:
        """Takes `gradient_norm` as it is before clipping."""
        norm, loss = ranks[0].get("gradient_norm"), ranks[0]["loss"]
        if norm is None or not math.isfinite(norm) or not math.isfinite(loss):
            return None
        if step <= self._config.after_steps:
            return None
        self._norms.append(norm)
        self._losses.append(abs(loss))
        if len(self._norms) < self._config.steps:
            return None
        middle = statistics.median(self._norms)
        least = self._config.least * min(1.0, statistics.median(self._losses))
        within = "small" if middle < least else "large" if middle > self._config.most else ""
        was_within, self._within = self._within, within
        if not within or within == was_within:
            return None
        where = f"gradient norm {middle:.2g} (median of the {len(self._norms)} steps to step {step})"
        if within == "small":
            return (
                f"{where} is below {least:.2g}: little is learned; check that the adapter trains what it "
                "should and that documents have learned tokens, or raise learning_rate"
            )
        return (
            f"{where} is above {self._config.most:.2g}: every step is clipped hard; lower learning_rate, "
            "raise warmup_ratio, or look for broken documents"
        )


class Straggler:
    """A rank whose own work takes longer than the others'.

    Looks at `seconds_busy`, the step without the time spent waiting for other ranks: the whole step takes
    all ranks equally long, as each waits for the slowest.
    """

    def __init__(self, config: StragglerWatch) -> None:
        self._config = config
        self._ratios: list[deque[float]] = []
        self._slow: set[int] = set()

    def look(self, step: int, ranks: Sequence[Metrics]) -> str | None:
        """Needs two ranks or more; starts afresh when their number changes."""
        seconds = [rank.get("seconds_busy", rank.get("step_seconds", 0.0)) for rank in ranks]
        if len(seconds) < 2 or min(seconds) <= 0:
            return None
        if len(seconds) != len(self._ratios):
            self._ratios = [deque(maxlen=self._config.steps) for _ in seconds]
            self._slow = set()
        median = statistics.median_low(seconds)  # of two ranks the faster one
        for ratios, own in zip(self._ratios, seconds, strict=True):
            ratios.append(own / median)
        if len(self._ratios[0]) < self._config.steps:
            return None
        typical = [statistics.median(ratios) for ratios in self._ratios]
        slow = {rank for rank, ratio in enumerate(typical) if ratio > self._config.factor}
        new, self._slow = slow - self._slow, slow
        if not new:
            return None
        rank = max(new, key=lambda rank: typical[rank])
        return (
            f"worker {rank} takes {typical[rank]:.1f} times as long as the others (the {self._config.steps} "
            f"steps to step {step}), and they wait for it; look for other work on its machine, or leave that "
            "machine out"
        )


class NotFinite:
    """A loss or gradient norm that is no number. Told at every step it is so, also at a repeated one."""

    def __init__(self) -> None:
        self._skipped = 0

    def look(self, step: int, ranks: Sequence[Metrics]) -> str | None:
        """`step_skipped` is 1 where fp16's loss scaling left the step out: that is no fault as such."""
        metrics = ranks[0]
        names = [name for name in ("loss", "gradient_norm") if not math.isfinite(metrics.get(name, 0.0))]
        if not names:
            self._skipped = 0
            return None
        if names == ["gradient_norm"] and metrics.get("step_skipped"):
            self._skipped += 1
            if self._skipped <= MOST_SKIPPED_STEPS:
                return None
        return (
            f"{' and '.join(names)} at step {step}: {', '.join(str(metrics[name]) for name in names)}; "
            "nothing can be learned from here: lower learning_rate, use layout.precision: bf16 or fp32, or "
            "leave the step's documents out"
        )


@dataclass
class Watchers:
    """All watchers of one run."""

    config: WatchConfig
    history: Iterable[Metrics] = ()
    """What earlier attempts of the run wrote, in order of steps: fills the windows, and is not told again."""
    _last_step: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        config = self.config
        self._not_finite = NotFinite()
        self._watchers: list[tuple[str, Watcher, str]] = [
            (kind, watcher, action)
            for kind, watcher, action in (
                ("loss_spike", LossSpike(config.loss_spike), config.loss_spike.action),
                ("gradient_norm", GradientNorm(config.gradient_norm), config.gradient_norm.action),
                ("straggler", Straggler(config.straggler), config.straggler.action),
            )
            if action != "off"
        ]
        for metrics in self.history:
            if "loss" in metrics:
                self._look([metrics])

    def observe(self, ranks: Sequence[Metrics]) -> list[Finding]:
        """What is new in one step's metrics, one mapping a rank in order of ranks, with `step` and `loss`."""
        step = int(ranks[0]["step"])
        message = self._not_finite.look(step, ranks)
        fatal = [Finding("not_finite", step, message, "stop")] if message else []
        return fatal + self._look(ranks)

    def _look(self, ranks: Sequence[Metrics]) -> list[Finding]:
        step = int(ranks[0]["step"])
        if step <= self._last_step:
            return []
        self._last_step = step
        looked = [(kind, watcher.look(step, ranks), action) for kind, watcher, action in self._watchers]
        return [
            Finding(kind, step, message, "stop" if action == "stop" else "warn")
            for kind, message, action in looked
            if message
        ]


class StallClock:
    """Tells when a run stands still. Times are a monotonic clock's, in seconds."""

    def __init__(self, config: StallWatch, now: float) -> None:
        """The run starts `now`: until its first step it is loading."""
        self._config = config
        self._since = now
        self._step = 0
        self._told = False
        self._intervals: deque[float] = deque(maxlen=100)
        self._longest = 0.0

    def step_done(self, step: int, now: float) -> None:
        """A step was reported, a new one or a repeated one."""
        if step == self._step:
            return
        if self._step and not self._told:
            self._intervals.append(now - self._since)
            self._longest = max(self._longest, now - self._since)
        self._step, self._since, self._told = step, now, False

    def limit_seconds(self) -> float:
        """How long the run may be silent now. Three times the longest pause so far leaves room for a slow
        checkpoint; the first step's wait is the model's loading."""
        config = self._config
        if not self._step:
            return config.first_step_seconds
        if config.seconds is not None:
            return config.seconds
        if not self._intervals:
            return max(config.at_least_seconds, config.first_step_seconds)
        median = statistics.median(self._intervals)
        return max(config.at_least_seconds, config.factor * median, 3 * self._longest)

    def check(self, now: float) -> Finding | None:
        """A finding when the run has been silent too long; one a pause."""
        silent = now - self._since
        if self._config.action == "off" or self._told or silent <= self.limit_seconds():
            return None
        self._told = True
        where = f"after step {self._step}" if self._step else "before the first step"
        message = (
            f"no step for {silent:.0f} s, {where}: a worker hangs or waits for another; look at the workers' "
            "stacks (`ray stack`) and logs, then stop the run and start it again: it goes on from its last "
            "checkpoint"
        )
        return Finding("stall", self._step, message, "stop" if self._config.action == "stop" else "warn")
