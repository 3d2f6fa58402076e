"""Preflight: what can be told of a recipe before it runs, in seconds, on a laptop, without Ray or torch.

`preflight` answers with checks and raises nothing; `check_before_submit` raises what they refuse.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heliostat.control.checks import Check, Examination, Question, ask_all, of_error, ok
from heliostat.control.preflight_cluster import cluster_questions
from heliostat.control.preflight_data import data_questions
from heliostat.control.preflight_place import Setting, place_questions
from heliostat.control.preflight_training import training_questions
from heliostat.errors import ClusterError, ConfigError, DataError
from heliostat.recipe import Recipe
from heliostat.recipe_parts import Part, parts_of
from heliostat.workspace import Workspace

OF_THE_CLUSTER = ("cluster", "token", "versions", "resources", "workspace of the cluster")
"""The names of checks that are about the cluster rather than about the recipe."""


@dataclass(frozen=True)
class Preflight(Examination):
    """What was checked of a recipe. `findings` are its parts in words, a line each."""

    recipe: str
    address: str | None
    findings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The preflight as JSON values."""
        of = {"recipe": self.recipe, "address": self.address, "findings": list(self.findings)}
        return of | super().to_json()


def preflight(
    recipe: Recipe | str | Path,
    overrides: tuple[str, ...] = (),
    workspace: str | Workspace | None = None,
    address: str | None = None,
) -> Preflight:
    """Check a recipe, here and against the cluster at `address`; a few seconds, whatever hangs.

    Where there is no address, the machine this runs on is what it is checked against.
    """
    started = time.monotonic()
    if not isinstance(recipe, Recipe):
        try:
            recipe = Recipe.load(recipe, overrides)
        except ConfigError as error:
            wrong = tuple(of_error("schema", error))
            return Preflight(wrong, time.monotonic() - started, str(recipe), address, ())
    setting = Setting.of(recipe, workspace, address)
    parts = [_question(part, setting) for part in parts_of(recipe, _registry(setting))]
    others = [
        *data_questions(setting),
        *training_questions(setting),
        *place_questions(setting),
        *cluster_questions(setting),
    ]
    schema = ok("schema", "every key is known, and the values go together")
    checks = (schema, *ask_all([*parts, *others]))
    findings = tuple(line for check in checks for line in check.facts.get("findings", ()))
    return Preflight(checks, time.monotonic() - started, recipe.name, address, findings)


def _question(part: Part, setting: Setting) -> Question:
    """A part of the recipe. Whether its data is there cannot be told for a cluster that is elsewhere."""

    def ask() -> list[Check]:
        try:
            lines = part.look()
        except (DataError, ConfigError) as error:
            of_data = part.name == "data" or part.name.startswith("pretrain ")
            if setting.elsewhere and of_data:
                said = of_error(part.name, error, "warning")
                mend = (
                    "right if every node of the cluster has it there; else use a path or URI that both reach"
                )
                return [replace(check, mend=mend) for check in said]
            raise
        words = "; ".join(line.removeprefix(f"{part.name}: ") for line in lines)
        return [ok(part.name, words, findings=lines)] if lines else []

    return Question(part.name, ask)


def _registry(setting: Setting) -> Workspace | None:
    """Where the recipe's versions are looked up: in a local workspace that has some."""
    root = Path(setting.workspace.storage.root)
    return setting.workspace if (root / "mlflow.db").is_file() and not setting.elsewhere else None


def check_before_submit(
    address: str, recipe: Recipe, workspace: str | Workspace | None = None
) -> list[Check]:
    """Refuse what cannot work before anything is sent; returns the warnings.

    Raises:
        ConfigError: the recipe cannot run, a line each.
        ClusterError: the recipe could, but this cluster cannot run it; a line each.
    """
    found = preflight(recipe, workspace=workspace, address=address)
    if not found.refusals:
        return found.warnings
    message = "\n".join(lines_of(found.refusals))
    if all(check.name in OF_THE_CLUSTER for check in found.refusals):
        raise ClusterError(message)
    raise ConfigError(message)


def lines_of(checks: Sequence[Check]) -> list[str]:
    """A line for each check, with how to mend it, and none twice."""
    lines = [f"{check.says}; {check.mend}" if check.mend else check.says for check in checks]
    return list(dict.fromkeys(lines))
