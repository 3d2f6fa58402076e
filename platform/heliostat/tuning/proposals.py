"""What to try next: one point of the search space after the other, the same for the same seed and results.

A searcher is asked for the point of a number and told how that went. Knows nothing of Ray or of training.
"""

import itertools
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliostat.records import Record
from heliostat.tuning.config import (
    Choice,
    Dimension,
    GridSearcher,
    Integer,
    LogUniform,
    RandomSearcher,
    TuneConfig,
    Uniform,
    grid_values,
)

Point = dict[str, Any]
"""A value for each dotted key of the search space."""
DRAWS_FOR_ANOTHER = 100


class PieceOfRun(Record):
    """What a trial makes of a run: the steps behind `start` to `until`, from where the trial of the number
    `after` is; from the beginning where that is None."""

    start: int = 0
    until: int
    after: int | None = None


@dataclass(frozen=True)
class Proposal:
    """What a trial is to try."""

    point: Point
    piece: PieceOfRun | None = None
    """None for a whole run."""


class Proposer(ABC):
    """Asked in the order of numbers, from 0."""

    def is_ready(self, number: int) -> bool:
        """Whether enough is known to propose this number's."""
        return True

    @abstractmethod
    def propose(self, number: int) -> Proposal | None:
        """What a trial is to try, or None when there are no more."""

    def take(self, number: int, proposal: Proposal) -> None:  # noqa: B027
        """Go by what a former attempt at the sweep proposed for this number."""

    def tell(self, number: int, value: float | None) -> None:  # noqa: B027
        """How the trial ended: its last value, or None if it failed or was not comparable."""


def first_points(config: TuneConfig) -> list[Point]:
    """All that a searcher proposes whom no results tell anything."""
    searcher = searcher_of(config)
    return [
        proposal.point
        for number in range(config.num_trials)
        if (proposal := searcher.propose(number)) is not None
    ]


def searcher_of(config: TuneConfig) -> Proposer:
    """The config's searcher."""
    if isinstance(config.searcher, GridSearcher):
        return Grid(config.search_space, config.searcher.seed)
    if isinstance(config.searcher, RandomSearcher):
        return Random(config.search_space, config.searcher.num_trials, config.searcher.seed)
    return Tpe(config)


class Grid(Proposer):
    """All combinations, shuffled."""

    def __init__(self, space: Mapping[str, Dimension], seed: int) -> None:
        """As `GridSearcher`."""
        keys = list(space)
        points = [
            dict(zip(keys, values, strict=True))
            for values in itertools.product(*map(grid_values, space.values()))
        ]
        order = np.random.default_rng(seed).permutation(len(points))
        self._points = [points[position] for position in order]

    def propose(self, number: int) -> Proposal | None:
        """The combination at that place."""
        return Proposal(self._points[number]) if number < len(self._points) else None


class Random(Proposer):
    """Independent draws; the point of a number depends on the seed and on those before it alone."""

    def __init__(self, space: Mapping[str, Dimension], num_trials: int, seed: int) -> None:
        """As `RandomSearcher`."""
        self._space = space
        self._num_trials = num_trials
        self._seed = seed
        self._seen: set[str] = set()

    def propose(self, number: int) -> Proposal | None:
        """Another point than those before, or None when so many were drawn, or no other is found."""
        if number >= self._num_trials:
            return None
        random = np.random.default_rng((self._seed, number))
        for _ in range(DRAWS_FOR_ANOTHER):
            point = {key: draw(dimension, random) for key, dimension in self._space.items()}
            if name_of(point) not in self._seen:
                self.take(number, Proposal(point))
                return Proposal(point)
        return None

    def take(self, number: int, proposal: Proposal) -> None:
        """Remember it, so that it is not drawn again."""
        self._seen.add(name_of(proposal.point))


class Tpe(Proposer):
    """Optuna's sampler, asked and told; trials of a former attempt are told like any others."""

    def __init__(self, config: TuneConfig) -> None:
        """A study in memory: what lasts is the sweep's own record of its trials."""
        import optuna

        searcher = config.searcher
        assert searcher.kind == "tpe"
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study(direction="minimize" if config.mode == "min" else "maximize")
        self._searcher = searcher
        self._distributions = {key: _distribution(each) for key, each in config.search_space.items()}
        self._choices = {
            key: each.values for key, each in config.search_space.items() if isinstance(each, Choice)
        }
        self._asked: dict[int, Any] = {}

    def propose(self, number: int) -> Proposal | None:
        """Where the sampler expects most."""
        if number >= self._searcher.num_trials:
            return None
        self._study.sampler = self._sampler(number)
        trial = self._asked[number] = self._study.ask(self._distributions)
        return Proposal({key: self._value(key, trial.params[key]) for key in self._distributions})

    def take(self, number: int, proposal: Proposal) -> None:
        """Make the study's next trial this one."""
        params = {key: self._position(key, value) for key, value in proposal.point.items()}
        self._study.enqueue_trial(params)
        self._asked[number] = self._study.ask(self._distributions)

    def tell(self, number: int, value: float | None) -> None:
        """A trial that a scheduler stopped counts with the value it had."""
        from optuna.trial import TrialState

        known = value is not None and math.isfinite(value)
        trial = self._asked.pop(number)
        if known:
            self._study.tell(trial, value)
        else:
            self._study.tell(trial, state=TrialState.FAIL)

    def _sampler(self, number: int) -> Any:
        """One for each number: what it draws depends on the results so far, not on who was asked before."""
        from optuna.samplers import TPESampler

        return TPESampler(
            seed=(self._searcher.seed * 1_000_003 + number) % 2**32,
            n_startup_trials=self._searcher.num_startup_trials,
            constant_liar=True,
        )

    def _value(self, key: str, param: Any) -> Any:
        return self._choices[key][param] if key in self._choices else param

    def _position(self, key: str, value: Any) -> Any:
        """Optuna wants categories that can be hashed, so a choice is told by its place."""
        if key not in self._choices:
            return value
        return next(place for place, each in enumerate(self._choices[key]) if name_of(each) == name_of(value))


def draw(dimension: Dimension, random: np.random.Generator) -> Any:
    """A value of a dimension."""
    if isinstance(dimension, Choice):
        return dimension.values[int(random.integers(len(dimension.values)))]
    if isinstance(dimension, Integer):
        values = grid_values(dimension)
        return values[int(random.integers(len(values)))]
    if isinstance(dimension, LogUniform):
        return float(math.exp(random.uniform(math.log(dimension.low), math.log(dimension.high))))
    return float(random.uniform(dimension.low, dimension.high))


def _distribution(dimension: Dimension) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choice):
        return CategoricalDistribution(list(range(len(dimension.values))))
    if isinstance(dimension, Integer):
        return IntDistribution(dimension.low, dimension.high, step=dimension.step)
    assert isinstance(dimension, LogUniform | Uniform)
    return FloatDistribution(dimension.low, dimension.high, log=isinstance(dimension, LogUniform))


def name_of(value: Any) -> str:
    """The same for the same values."""
    return json.dumps(value, sort_keys=True)
