"""A recipe while it is written: what each key means, what is wrong where, what changed, what it takes."""

import difflib
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from heliostat.control.curves import flatten
from heliostat.control.preflight_training import machine
from heliostat.control.presets import Preset, changed, value_at
from heliostat.errors import ConfigError, HeliostatError
from heliostat.planning import plan_run
from heliostat.recipe import Recipe
from heliostat.recipe_file import RecipeFile
from heliostat.training.plan_devices import available_bytes
from heliostat.workspace import Workspace

MOST_CHANGES = 100
"""So many of an address are taken; a person has typed fewer."""


LARGEST = 2**53 - 1
"""A browser's numbers are exact up to here."""


@dataclass(frozen=True)
class Setting:
    """A key of a recipe: its value as YAML on one line, and what it means ("" where nobody has said)."""

    key: str
    value: str
    about: str


@dataclass(frozen=True)
class Estimate:
    """What one of a recipe's training runs will take. None where it is not known before the data is there."""

    name: str
    steps: int | None
    tokens: int | None
    parameters: int
    num_workers: int
    peak_bytes: int


def with_changes(preset: Preset, overrides: tuple[str, ...]) -> Preset:
    """The preset with changes in place, not validated: what a form begins with.

    Raises:
        ConfigError: a change is no `key=value`, or its key leads into a value.
    """
    file = RecipeFile(values=yaml.safe_load(preset.text))
    for override in overrides[:MOST_CHANGES]:
        file.apply(override)
    return Preset(preset.key, preset.about, file.values)


def hinted(preset: Preset, model: str = "", dataset: str = "") -> tuple[str, ...]:
    """The changes that another page asks for: train this model, on the documents of this path."""
    changes = [f"model={_one_line(model)}"] if model else []
    if dataset and value_at(preset.values, "data.sources.0.path") is not None:
        changes.append(f"data.sources.0.path={_one_line(dataset)}")
    elif dataset:
        kind = "parquet" if dataset.rstrip("/").endswith(".parquet") else "jsonl"
        changes.append(f"data.sources={_one_line([{'kind': kind, 'path': dataset}])}")
    return tuple(changes)


def split_changes(preset: Preset, overrides: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """The preset's fields with those changes in place that fit them, and the others, a line each."""
    fields, others = dict(preset.fields), []
    for override in overrides[:MOST_CHANGES]:
        key, _, text = override.partition("=")
        value = _plain_value(text)
        before = fields.get(key)
        fits = type(value) is type(before) or (isinstance(before, float) and type(value) is int)
        if before is not None and fits and not (isinstance(value, int | float) and abs(value) > LARGEST):
            fields[key] = type(before)(value)
        else:
            others.append(" ".join(override.split("\n")))
    return fields, "\n".join(others)


def problems(preset: Preset, overrides: tuple[str, ...]) -> dict[str, str]:
    """What is wrong with the recipe: key -> one line. What belongs to no key stands under ""."""
    try:
        changed(preset, overrides)
    except ConfigError as error:
        found: dict[str, str] = {}
        for line in str(error).splitlines():
            key, says = _key_of(line)
            found.setdefault(key, says)
        return found
    return {}


def difference(preset: Preset, overrides: tuple[str, ...]) -> str:
    """What the changes do to the preset's text, as a unified diff; "" where nothing.

    Raises:
        ConfigError: a change is wrong.
    """
    before, after = preset.text.splitlines(), with_changes(preset, overrides).text.splitlines()
    return "\n".join(difflib.unified_diff(before, after, preset.key, "now", lineterm="", n=2))


def settings_of(preset: Preset, overrides: tuple[str, ...]) -> tuple[Setting, ...]:
    """Every key of the recipe, defaults in place; errors as `changed`."""
    values = changed(preset, overrides).model_dump(mode="json")
    return tuple(
        Setting(key, _one_line(value), about_of(key, values)) for key, value in flatten(values).items()
    )


def edited(before: tuple[Setting, ...], after: dict[str, str]) -> tuple[str, ...]:
    """The changes that lead from some settings to others: key -> value as YAML on one line."""
    return tuple(
        f"{each.key}={after[each.key].strip()}"
        for each in before
        if each.key in after and after[each.key].strip() != each.value
    )


def about_of(key: str, values: Any) -> str:
    """What a dotted key means, by the config's schema; which variant is meant is read off the values."""
    schema, here = _schema(), values
    node: dict[str, Any] = schema
    about = ""
    for part in key.split("."):
        node = _variant(node, here, schema)
        if part.isdigit():
            node = node.get("items", {})
            here = here[int(part)] if isinstance(here, list) and int(part) < len(here) else None
        else:
            node = node.get("properties", {}).get(part) or _free_form(node)
            here = here.get(part) if isinstance(here, dict) else None
        about = str(node.get("description") or "")
    return " ".join(about.split())


def estimates(recipe: Recipe, workspace: Workspace) -> tuple[Estimate, ...]:
    """What the training runs of a recipe take; those of which nothing can be told are left out."""
    found = []
    for run in recipe.trainings:
        here = machine("this machine", run, run.train.max_workers, available_bytes())
        try:
            plan = plan_run(recipe, run, workspace, () if run.train.use_gpu else (here,))
        except HeliostatError:  # the checks say what is missing
            continue
        tokens = plan.tokens or (plan.steps * plan.tokens_per_step if plan.steps else None)
        parameters = plan.parameters.get("all", 0)
        peak = plan.worker.peak
        found.append(Estimate(run.name, plan.steps, tokens, parameters, plan.num_workers, peak))
    return tuple(found)


@cache
def _schema() -> dict[str, Any]:
    return Recipe.model_json_schema()


def _variant(node: dict[str, Any], value: Any, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema behind references, and of several the one that fits the value."""
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    choices = [_variant(each, value, schema) for each in (*node.get("oneOf", ()), *node.get("anyOf", ()))]
    if not choices:
        return node
    wanted = "array" if isinstance(value, list) else "object"
    fitting = [each for each in choices if each.get("type") == wanted]
    kind = value.get("kind") if isinstance(value, dict) else None
    of_kind = [each for each in fitting if each.get("properties", {}).get("kind", {}).get("const") == kind]
    return next(iter((of_kind if kind else []) or fitting or choices))


def _free_form(node: dict[str, Any]) -> dict[str, Any]:
    more = node.get("additionalProperties")
    return more if isinstance(more, dict) else {}


def _key_of(line: str) -> tuple[str, str]:
    """The key that a line of a ConfigError names, and the rest: `file:3: train.max_steps: expected ...`."""
    parts = line.split(": ")
    for place, part in enumerate(parts[1:-1], 1):
        names = part.split(".")
        if names[0].isidentifier() and all(name.isidentifier() or name.isdigit() for name in names):
            return part, ": ".join(parts[place + 1 :])
    return "", line


def _plain_value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # ValueError: a date such as 2020-13-45
        return None


def _one_line(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()
