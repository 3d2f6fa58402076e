"""From a point of the search space to what a trial is told: how to train, and a model where it is built."""

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from heliostat.config import Config
from heliostat.errors import ConfigError
from heliostat.models.scratch_config import Model
from heliostat.recipe_file import RecipeFile, explain_validation_error
from heliostat.training.config import Change, TrainConfig, ValidationConfig
from heliostat.training.objectives.reported import figures_of
from heliostat.training.plan_inputs import shape_of_model
from heliostat.tuning.config import FixedSize, PbtScheduler, TuneConfig, grid_values
from heliostat.tuning.proposals import Point, draw, first_points
from heliostat.tuning.trials import Trial, Trials, changes_on
from heliostat.workspace import Workspace

FLOPS_PER_PARAMETER = 6
"""Of one token's forward and backward pass (Kaplan et al., 2020, arXiv:2001.08361)."""
MOST_SHOWN = 3


class Settings(Config):
    """The two sections that a search space may reach into, with a trial's values in place."""

    train: TrainConfig
    model: Model

    def canonical(self) -> dict[str, Any]:
        """A reference to a model says nothing of its content, which counts as an input of its own."""
        values = super().canonical()
        return values if not isinstance(self.model, str) else {"train": values["train"]}


@dataclass(frozen=True)
class Space:
    """A sweep's search space around the sections it starts from."""

    tune: TuneConfig
    start: Settings
    workspace: Workspace | None = None
    """Where the size of a tokenizer's model is looked up."""

    @classmethod
    def around(cls, tune: TuneConfig, train: TrainConfig, model: Model) -> "Space":
        """The space around a recipe's sections."""
        return cls(tune, Settings(train=train, model=model))

    @property
    def num_trials(self) -> int:
        """How many trials there are at most."""
        scheduler, steps = self.tune.scheduler, self.start.train.max_steps
        if isinstance(scheduler, PbtScheduler) and steps is not None:
            return self.tune.num_trials * len(scheduler.ends(steps))
        return self.tune.num_trials

    def settings(self, point: Point, changes: Sequence[Change] = ()) -> Settings:
        """The sections of a trial that begins with `point` and goes on with the changes.

        Raises:
            ConfigError: a key is unknown, or the values do not go together.
        """
        values = {
            "train": said(self.start.train),
            "model": self.start.model if isinstance(self.start.model, str) else said(self.start.model),
        }
        sections = RecipeFile(values)
        for key, value in point.items():
            if key.startswith("model.") and isinstance(self.start.model, str):
                raise ConfigError(
                    f"search_space: '{key}': model: {self.start.model} is trained already and keeps its "
                    "shape; search one that is built, such as model: {kind: llama}"
                )
            sections.put(tuple(key.split(".")), value, f"search_space '{key}': {json.dumps(value)}")
        try:
            found = Settings.model_validate(values)
        except ValidationError as error:
            raise explain_validation_error(error, Settings, sections) from None
        if self.tune.fixed:
            found = self._hold(self.tune.fixed, values, found)
        train = self._with_validation(found.train)
        if isinstance(self.tune.scheduler, PbtScheduler):
            train = _in_pieces(train, changes, self.tune.scheduler)
        return found.model_copy(update={"train": train})

    def settings_of(self, trial: Trial, trials: Trials) -> Settings:
        """A trial's sections, with what changes in those whose run it goes on with.

        Raises:
            ConfigError: as `settings`.
        """
        path = trials.path_to(trial)
        return self.settings(path[0].point, changes_on(path))

    def check(self) -> list[str]:
        """Refuse a space that cannot work; returns why some of its combinations cannot, a line each.

        Raises:
            ConfigError: a key is unknown, no combination is possible, or nobody reports the metric.
        """
        self._check_metric()
        self._check_pieces()
        points = list(_corners(self.tune))
        if self.tune.searcher.kind == "grid":
            points = first_points(self.tune)
        refused = []
        for point in points:
            try:
                self.settings(point)
            except ConfigError as error:
                if "unknown key" in str(error):
                    raise
                refused.append(str(error).splitlines()[0])
        if len(refused) == len(points):
            raise ConfigError(refused[0])
        return refused

    def _check_metric(self) -> None:
        metric, known = self.tune.metric, figures_of(self.start.train.objective)
        if metric not in known:
            close = difflib.get_close_matches(metric, known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(known)}"
            raise ConfigError(f"tune.metric: nobody reports '{metric}'; {hint}")

    def _check_pieces(self) -> None:
        scheduler, train = self.tune.scheduler, self.start.train
        if not isinstance(scheduler, PbtScheduler):
            return
        if train.max_steps is None:
            raise ConfigError(
                "train.max_steps: scheduler pbt makes runs in pieces and needs to know their end; give it"
            )
        if scheduler.every_steps >= train.max_steps:
            raise ConfigError(
                f"tune.scheduler.every_steps: {scheduler.every_steps} is no piece of a run of "
                f"{train.max_steps} steps; the nearest is {max(1, train.max_steps // 4)}"
            )
        if train.changes:
            raise ConfigError("train.changes: scheduler pbt finds them itself; leave them out")

    def _with_validation(self, train: TrainConfig) -> TrainConfig:
        """The trial's own workers say how it goes, between two steps."""
        held_out = self.tune.held_out
        validation = ValidationConfig(
            **self.tune.judged_at,
            by="workers",
            split=held_out.split,
            max_sequences=held_out.max_sequences,
            num_samples=0,
        )
        return TrainConfig.model_validate({**said(train), "validation": said(validation)})

    def _hold(self, fixed: FixedSize, values: dict[str, Any], found: Settings) -> Settings:
        """The settings whose size comes nearest, by the one field that is computed."""
        field = fixed.by.partition(".")[2]
        if isinstance(found.model, str) or field not in type(found.model).model_fields:
            raise ConfigError(f"fixed.by: '{fixed.by}' is no field of this model; take model.num_layers")

        def with_value(value: int) -> Settings:
            return Settings.model_validate({**values, "model": {**values["model"], field: value}})

        def size(value: int) -> float:
            return _size(with_value(value), fixed, self.workspace)

        low, high = 0, 1  # in units of multiple_of: the size grows with the field
        unit = fixed.multiple_of
        while size(high * unit) < fixed.value:
            low, high = high, 2 * high
            if high > 2**20:
                raise ConfigError(
                    f"fixed.by: '{fixed.by}' does not change the {fixed.kind}; take another field"
                )
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if size(middle * unit) < fixed.value else (low, middle)
        best = min(
            (each * unit for each in (low, high) if each), key=lambda each: abs(size(each) - fixed.value)
        )
        off = size(best) / fixed.value - 1
        if abs(off) > fixed.tolerance:
            raise ConfigError(
                f"fixed: the nearest to {fixed.value:,.0f} {fixed.kind} is {fixed.by} {best} with "
                f"{off:+.1%}; raise fixed.tolerance, or compute a field that changes less at a time"
            )
        return with_value(best)


def _in_pieces(train: TrainConfig, changes: Sequence[Change], scheduler: PbtScheduler) -> TrainConfig:
    """With a state at the end of each piece, which others may go on from until the next ones are made."""
    kept = {"every_steps": scheduler.every_steps, "num_to_keep": max(2, train.checkpoint.num_to_keep)}
    told = [said(change) for change in changes]
    return TrainConfig.model_validate({**said(train), "checkpoint": kept, "changes": told})


def _size(settings: Settings, fixed: FixedSize, workspace: Workspace | None) -> float:
    shape = shape_of_model(settings.model, workspace)
    if fixed.kind == "parameters":
        return float(shape.num_parameters)
    return float(FLOPS_PER_PARAMETER * shape.active_parameters)


def said(config: Config) -> dict[str, Any]:
    """What was said to make a config, as a recipe has it: fields that were set, and each variant's kind."""
    values: dict[str, Any] = {}
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Config) and (name in config.model_fields_set or hasattr(value, "kind")):
            values[name] = said(value)
        elif name in config.model_fields_set or name == "kind":
            values[name] = config.model_dump(mode="json", include={name})[name]
    return values


def _corners(tune: TuneConfig) -> list[Point]:
    """Some points that have between them each value of a list, and both ends of a range."""
    import numpy as np

    random = np.random.default_rng(0)
    ends = {
        key: list(grid_values(each)) if each.kind == "choice" else [each.low, each.high]
        for key, each in tune.search_space.items()
    }
    middle = {key: draw(each, random) for key, each in tune.search_space.items()}
    return [{**middle, key: value} for key, values in ends.items() for value in values]
