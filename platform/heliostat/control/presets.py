"""Recipes to begin with: the ones of jobs/recipes, or a job's own, and the few keys most people change."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from heliostat.control.job_records import job_of
from heliostat.control.packages import working_folder
from heliostat.control.sites import Site
from heliostat.control.work_page import recipe_values
from heliostat.errors import ConfigError
from heliostat.recipe import Recipe
from heliostat.recipe_file import RecipeFile

FIRST = (
    "one_minute",
    "quickstart",
    "clean",
    "pretrain_moe",
    "sweep",
    "dpo",
    "evaluate_tasks",
    "quantize_int4",
    "deploy",
)
"""The presets that come first, in this order."""
COMMON_KEYS = (
    "model",
    "data.sources.0.path",
    "data.sources.0.max_documents",
    "train.max_steps",
    "train.num_epochs",
    "train.learning_rate",
    "train.num_workers",
    "train.micro_batch_size",
    "train.adapter.r",
    "tune.scheduler.kind",
    "compress.scheme",
    "serve.name",
)
MOST_FIELDS = 6


@dataclass(frozen=True)
class Preset:
    """A recipe to begin with. `about` is its first comment; `values` have its bases folded in."""

    key: str
    about: str
    values: dict[str, Any] = field(hash=False)

    @property
    def text(self) -> str:
        """The recipe as YAML."""
        return yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True)

    @property
    def fields(self) -> dict[str, Any]:
        """The keys most people change, with the recipe's values; at most MOST_FIELDS."""
        found = {key: value for key in COMMON_KEYS if (value := value_at(self.values, key)) is not None}
        plain = {key: value for key, value in found.items() if isinstance(value, str | int | float)}
        return dict(list(plain.items())[:MOST_FIELDS])


def presets() -> tuple[Preset, ...]:
    """The recipes of jobs/recipes, the usual ones first.

    Raises:
        ConfigError: there is no jobs/ folder here.
    """
    return _presets(working_folder() / "jobs" / "recipes")


@cache
def _presets(folder: Path) -> tuple[Preset, ...]:
    names = [path.stem for path in sorted(folder.glob("*.yaml"))]
    ordered = [name for name in FIRST if name in names]
    ordered += [name for name in names if name not in ordered]
    found = (_read(folder / f"{name}.yaml") for name in ordered)
    return tuple(preset for preset in found if "name" in preset.values)  # others are no jobs


def preset_of(key: str) -> Preset:
    """One of them.

    Raises:
        ConfigError: there is none of this name.
    """
    known = {preset.key: preset for preset in presets()}
    if key not in known:
        raise ConfigError(f"no recipe '{key}' in jobs/recipes; there are {', '.join(known)}")
    return known[key]


def preset_of_job(site: Site, job_id: str) -> Preset:
    """A job's recipe, its overrides folded in, to change and hand in again.

    Raises:
        ConfigError: there is no such job, or it has no recipe on record.
    """
    job = job_of(site.store, job_id)
    return Preset(job.name, job.id, recipe_values(job))


def preset_of_text(name: str, text: str) -> Preset:
    """A recipe that somebody brings along.

    Raises:
        ConfigError: it is no YAML, or no recipe.
    """
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f"line {line + 1}" if line is not None else "the text"
        raise ConfigError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(values, dict):
        raise ConfigError("line 1: expected 'key: value' lines, found a list or a single value")
    return Preset(name, "", values)


def changed(preset: Preset, overrides: tuple[str, ...]) -> Recipe:
    """The preset with changes, as it would be run.

    Raises:
        ConfigError: a change or the recipe is wrong, a line each.
    """
    file = RecipeFile(values=yaml.safe_load(preset.text))
    for override in overrides:
        file.apply(override)
    return Recipe.of(file)


def whole_text(preset: Preset, overrides: tuple[str, ...]) -> str:
    """The preset with changes and all defaults in place, as YAML; errors as `changed`."""
    values = changed(preset, overrides).model_dump(mode="json")
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def overrides_of(preset: Preset, given: dict[str, Any], more: str) -> tuple[str, ...]:
    """What was changed: fields that differ from the preset's, and the lines of `more` (key=value)."""
    before = preset.fields
    fields = [f"{key}={_typed(value)}" for key, value in given.items() if value != before.get(key)]
    lines = [line.strip() for line in more.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return (*fields, *lines)


def value_at(values: Any, key: str) -> Any:
    """What is at a dotted key; None where there is nothing."""
    for part in key.split("."):
        if isinstance(values, list) and part.isdigit() and int(part) < len(values):
            values = values[int(part)]
        elif isinstance(values, dict):
            values = values.get(part)
        else:
            return None
    return values


def _read(path: Path) -> Preset:
    return Preset(path.stem, first_comment(path.read_text(encoding="utf-8")), RecipeFile.read(path).values)


def first_comment(text: str) -> str:
    """The comment that a recipe begins with, as far as its first sentence goes: a line that begins small goes
    on with it."""
    told: list[str] = []
    for line in text.splitlines():
        said = line.removeprefix("#").strip()
        if not line.startswith("#") or (told and not said[:1].islower()):
            break
        told.append(said)
    whole = " ".join(told)
    end = whole.find(". ")
    return whole if end < 0 else whole[: end + 1]


def _typed(value: Any) -> str:
    """A value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).partition("\n")[0]
