"""What a sweep is told. Light: nothing here imports ray or optuna."""

import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config
from heliostat.training.change_config import CHANGEABLE

NEVER = 10**9
MOST_RUNGS = 10
"""Ray Tune's asynchronous hyperband has ten."""
SECTIONS = ("train", "model")
"""What a search space may reach into: a trial is a training run of a model."""


class Choice(Config):
    """One of some values, each of any kind: a number, a word, a list."""

    kind: Literal["choice"] = "choice"
    values: tuple[Any, ...] = Field(min_length=1)


class Uniform(Config):
    """A real number between two bounds, each as likely as the other."""

    kind: Literal["uniform"] = "uniform"
    low: float
    high: float

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        _check_order(self.low, self.high)
        return self


class LogUniform(Config):
    """A real number between two bounds, each order of magnitude as likely as the other."""

    kind: Literal["log_uniform"] = "log_uniform"
    low: float = Field(gt=0)
    high: float

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        _check_order(self.low, self.high)
        return self


class Integer(Config):
    """A whole number between two bounds, both included, in steps."""

    kind: Literal["integer"] = "integer"
    low: int
    high: int
    step: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        _check_order(self.low, self.high)
        return self


def _check_order(low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"low: {low:g} is not below high: {high:g}")


Dimension = Annotated[Choice | Uniform | LogUniform | Integer, Field(discriminator="kind")]


class GridSearcher(Config):
    """Every combination, in an order drawn from the seed: in the order written, all good ones might come
    last, and a scheduler would let the first ones run because it knows nothing better."""

    kind: Literal["grid"] = "grid"
    seed: int = Field(default=0, ge=0)


class RandomSearcher(Config):
    """Points drawn independently; none twice, as far as the space has others."""

    kind: Literal["random"] = "random"
    num_trials: int = Field(ge=1)
    seed: int = Field(default=0, ge=0)


class TpeSearcher(Config):
    """Tree-structured Parzen estimator of Optuna (Bergstra et al., 2011): where good trials were, go on."""

    kind: Literal["tpe"] = "tpe"
    num_trials: int = Field(ge=1)
    num_startup_trials: int = Field(default=8, ge=1, description="drawn at random first")
    seed: int = Field(default=0, ge=0)


Searcher = Annotated[GridSearcher | RandomSearcher | TpeSearcher, Field(discriminator="kind")]


class NoScheduler(Config):
    """Every trial runs to its end."""

    kind: Literal["none"] = "none"


class AshaScheduler(Config):
    """Asynchronous successive halving (Li et al., 2018, arXiv:1810.05934): behind `grace_steps` steps, and
    each time `reduction_factor` times later, only the best of so many trials goes on."""

    kind: Literal["asha"] = "asha"
    grace_steps: int = Field(ge=1)
    reduction_factor: float = Field(default=3, gt=1)

    @property
    def rungs(self) -> tuple[int, ...]:
        """The steps at which it decides, as many as anyone needs."""
        return tuple(math.ceil(self.grace_steps * self.reduction_factor**rung) for rung in range(MOST_RUNGS))


class MedianScheduler(Config):
    """Stop a trial whose best value so far is worse than the median of the others' means (Golovin et al.,
    2017, Google Vizier)."""

    kind: Literal["median"] = "median"
    grace_steps: int = Field(ge=1)
    min_trials: int = Field(default=3, ge=1, description="others to compare with")


class PbtScheduler(Config):
    """Population based training (Jaderberg et al., 2017, arXiv:1711.09846): the searcher's points are a
    population; behind each `every_steps` steps its worst members go on from where the best ones are, with
    values near theirs. What comes out is a run whose rates change on the way."""

    kind: Literal["pbt"] = "pbt"
    every_steps: int = Field(ge=1)
    quantile: float = Field(default=0.25, gt=0, le=0.5, description="the share that is replaced, and by whom")
    factor: float = Field(default=1.25, gt=1, description="a value is multiplied or divided by it")
    resample_probability: float = Field(default=0.25, ge=0, le=1, description="or drawn afresh")

    def ends(self, num_steps: int) -> list[int]:
        """The steps behind which members are compared; the last one is the run's."""
        return [*range(self.every_steps, num_steps, self.every_steps), num_steps]


Scheduler = Annotated[
    NoScheduler | AshaScheduler | MedianScheduler | PbtScheduler, Field(discriminator="kind")
]


class Budget(Config):
    """Where a sweep ends, and how much of it goes on at once; what is not given has no limit."""

    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset({"max_concurrent"})

    max_concurrent: int | None = Field(
        default=None, ge=1, description="trials at once; as many as the cluster has room for unless told"
    )
    max_tokens: int | None = Field(default=None, ge=1, description="trained on, over all trials")
    max_hours: float | None = Field(default=None, gt=0)


class HeldOutConfig(Config):
    """What the trials are judged on, by their own workers."""

    every_steps: int | None = Field(
        default=None, ge=1, description="when the scheduler decides, unless told; always behind the last step"
    )
    split: Literal["validation", "test"] = "validation"
    max_sequences: int = Field(default=64, ge=1, description="the split's first ones")


class FixedSize(Config):
    """Hold a size of the model while its shape is searched: one field is computed from the others.

    `parameters` are all of them; `flops` those of one token's forward and backward pass, 6 times the
    parameters it meets (Kaplan et al., 2020, arXiv:2001.08361).
    """

    kind: Literal["parameters", "flops"]
    value: float = Field(gt=0)
    by: str = Field(pattern=r"^model\.", description="the field that is computed, such as model.num_layers")
    multiple_of: int = Field(default=1, ge=1)
    tolerance: float = Field(default=0.05, gt=0, lt=1, description="how far the nearest may be off")


class TuneConfig(Config):
    """A sweep: a training run with some values to be found. It needs a `train:` section beside it."""

    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset({"max_failures"})

    name: str = Field(default="sweep", pattern=r"^[a-z0-9][a-z0-9._-]*$")
    search_space: dict[str, Dimension] = Field(
        min_length=1, description="by dotted key, such as train.learning_rate; a list is a choice"
    )
    metric: str = Field(default="validation_loss", description="any figure of a step, as training reports it")
    mode: Literal["min", "max"] = "min"
    searcher: Searcher = GridSearcher()
    scheduler: Scheduler = NoScheduler()
    budget: Budget = Budget()
    held_out: HeldOutConfig = HeldOutConfig()
    fixed: FixedSize | None = None
    max_failures: int = Field(default=1, ge=0, description="how often a trial that failed is tried again")

    @model_validator(mode="before")
    @classmethod
    def _lists_are_choices(cls, values: Any) -> Any:
        space = values.get("search_space") if isinstance(values, dict) else None
        if not isinstance(space, dict):
            return values
        read = {
            key: {"values": each} if isinstance(each, list | tuple) else each for key, each in space.items()
        }
        filled = {
            key: {"kind": "choice"} | each if isinstance(each, dict) and "values" in each else each
            for key, each in read.items()
        }
        return {**values, "search_space": filled}

    @model_validator(mode="after")
    def _check_space(self) -> Self:
        for key, dimension in self.search_space.items():
            if key.partition(".")[0] not in SECTIONS or "." not in key:
                raise ValueError(
                    f"search_space: '{key}' is no key of {' or '.join(f'{each}:' for each in SECTIONS)}; "
                    "write it whole, such as train.learning_rate"
                )
            if isinstance(self.searcher, GridSearcher) and isinstance(dimension, Uniform | LogUniform):
                raise ValueError(
                    f"search_space: '{key}' has no end of values for searcher grid; give a list, or take "
                    "searcher: {kind: random, num_trials: 16}"
                )
        if self.fixed and self.fixed.by in self.search_space:
            raise ValueError(
                f"fixed: computes '{self.fixed.by}', so search_space cannot have it; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _check_population(self) -> Self:
        if not isinstance(self.scheduler, PbtScheduler):
            return self
        can = [f"train.{name}" for name in CHANGEABLE]
        for key in self.search_space:
            if key not in can:
                raise ValueError(
                    f"search_space: '{key}' cannot change while a run goes on, which scheduler pbt is about; "
                    f"it can search {' and '.join(can)}; for others take scheduler: {{kind: asha}}"
                )
        for key, dimension in self.search_space.items():
            wrong = [each for each in getattr(dimension, "values", ()) if not _is_number(each)]
            if wrong:
                raise ValueError(f"search_space: '{key}': {wrong[0]!r} is no number")
        if isinstance(self.searcher, TpeSearcher):
            raise ValueError(
                "searcher: scheduler pbt goes by results itself; take searcher: "
                f"{{kind: random, num_trials: {self.searcher.num_trials}}} for its first generation"
            )
        if self.scheduler.every_steps % (self.held_out.every_steps or 1):
            raise ValueError(
                f"held_out.every_steps: {self.held_out.every_steps} does not divide scheduler.every_steps: "
                f"{self.scheduler.every_steps}, behind which members are compared; leave it out"
            )
        return self

    @property
    def judged_at(self) -> dict[str, Any]:
        """When a trial says how it goes, in the words of `ValidationConfig`; also behind its last step."""
        if self.held_out.every_steps is not None:
            return {"every_steps": self.held_out.every_steps}
        if isinstance(self.scheduler, AshaScheduler):
            return {"at_steps": self.scheduler.rungs}
        if isinstance(self.scheduler, PbtScheduler):
            return {"every_steps": self.scheduler.every_steps}
        return {"every_steps": getattr(self.scheduler, "grace_steps", NEVER)}

    @property
    def num_trials(self) -> int:
        """How many points the searcher has at most."""
        if isinstance(self.searcher, GridSearcher):
            return math.prod(len(grid_values(each)) for each in self.search_space.values())
        return self.searcher.num_trials


def _is_number(value: Any) -> bool:
    """Also as YAML reads 1e-4: a text."""
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def grid_values(dimension: Dimension) -> tuple[Any, ...]:
    """All values of a dimension that has an end of them."""
    if isinstance(dimension, Choice):
        return dimension.values
    assert isinstance(dimension, Integer), "the config refuses the others"
    return tuple(range(dimension.low, dimension.high + 1, dimension.step))
