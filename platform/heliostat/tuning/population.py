"""Population based training: runs made in pieces, the worst of which go on from the best with other values.

After Jaderberg et al., 2017 (arXiv:1711.09846), but in step: behind each piece all wait for each other, so a
sweep comes to the same end whatever runs beside what, and however often it is interrupted.
"""

import math
from collections.abc import Sequence

import numpy as np

from heliostat.tuning.config import Choice, Dimension, PbtScheduler, TuneConfig
from heliostat.tuning.proposals import (
    DRAWS_FOR_ANOTHER,
    PieceOfRun,
    Point,
    Proposal,
    Proposer,
    draw,
    first_points,
    name_of,
    searcher_of,
)


def proposer_of(config: TuneConfig, num_steps: int | None) -> Proposer:
    """The config's searcher, or a population that begins with its points, whose runs have so many steps."""
    if not isinstance(config.scheduler, PbtScheduler):
        return searcher_of(config)
    assert num_steps is not None, "the space was checked"
    return Population(config, first_points(config), num_steps)


class Population(Proposer):
    """Trials in generations, each a piece of every member's run."""

    def __init__(self, config: TuneConfig, first: Sequence[Point], num_steps: int) -> None:
        """`first` are the members' points at the beginning; a run has `num_steps` steps."""
        assert isinstance(config.scheduler, PbtScheduler)
        self._scheduler = config.scheduler
        self._space = config.search_space
        self._sign = 1 if config.mode == "min" else -1
        self._seed = config.searcher.seed
        self._ends = config.scheduler.ends(num_steps)
        points = [{key: float(value) for key, value in point.items()} for point in first]
        members = {name_of(point): point for point in points}  # a value may be written in two ways
        self._proposals = [Proposal(point, PieceOfRun(until=self._ends[0])) for point in members.values()]
        self._generations = [range(len(members))]
        self._values: dict[int, float] = {}

    def is_ready(self, number: int) -> bool:
        """Whether all have ended whom it is chosen among."""
        known = number < len(self._proposals)
        return known or all(each in self._values for each in self._generations[-1])

    def propose(self, number: int) -> Proposal | None:
        """A member's next piece: of its own run, or one that starts where a better one is."""
        if number == len(self._proposals) and len(self._generations) < len(self._ends):
            self._breed()
        return self._proposals[number] if number < len(self._proposals) else None

    def take(self, number: int, proposal: Proposal) -> None:
        """What is proposed follows from the results, which are the same as before."""
        self.propose(number)

    def tell(self, number: int, value: float | None) -> None:
        """What failed is worse than any."""
        known = value is not None and math.isfinite(value)
        self._values[number] = self._sign * value if known and value is not None else math.inf

    def _breed(self) -> None:
        """The next generation. Who failed, and whom nobody's values are left for, has no successor."""
        last = self._generations[-1]
        ranked = sorted(last, key=lambda each: (self._values[each], each))
        count = max(1, int(self._scheduler.quantile * len(ranked))) if len(ranked) > 1 else 0
        best = [each for each in ranked[: count or 1] if math.isfinite(self._values[each])]
        worst = {each for each in ranked if not math.isfinite(self._values[each])}
        worst |= {
            each for each in ranked[len(ranked) - count :] if self._values[each] > self._values[ranked[0]]
        }
        start, until = self._ends[len(self._generations) - 1 : len(self._generations) + 1]
        random = np.random.default_rng((self._seed, len(self._generations)))
        taken = {(each, name_of(self._proposals[each].point)) for each in last}
        chosen = []
        for own in last:
            after, point = own, self._proposals[own].point
            if own in worst:
                other = self._other(best, taken, random)
                if other is None and not math.isfinite(self._values[own]):
                    continue
                after, point = other or (after, point)
            chosen.append(Proposal(point, PieceOfRun(start=start, until=until, after=after)))
        self._generations.append(range(len(self._proposals), len(self._proposals) + len(chosen)))
        self._proposals += chosen

    def _other(
        self, best: list[int], taken: set[tuple[int, str]], random: np.random.Generator
    ) -> tuple[int, Point] | None:
        """One of the best, and values near its own with which nobody goes on from it yet."""
        for _ in range(DRAWS_FOR_ANOTHER if best else 0):
            after = best[int(random.integers(len(best)))]
            known = self._proposals[after].point
            point = {key: self._turn(each, known[key], random) for key, each in self._space.items()}
            if (after, name_of(point)) not in taken:
                taken.add((after, name_of(point)))
                return after, point
        return None

    def _turn(self, dimension: Dimension, value: float, random: np.random.Generator) -> float:
        """A value up or down a little, or any other one."""
        if random.random() < self._scheduler.resample_probability:
            return float(draw(dimension, random))
        if isinstance(dimension, Choice):
            ordered = sorted(map(float, dimension.values))
            place = ordered.index(value) + (1 if random.random() < 0.5 else -1)
            return ordered[min(max(place, 0), len(ordered) - 1)]
        turned = value * self._scheduler.factor ** (1 if random.random() < 0.5 else -1)
        return float(min(max(turned, dimension.low), dimension.high))
