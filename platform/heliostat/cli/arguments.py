"""Arguments and options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from heliostat.recipe import Recipe

RecipePath = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="A recipe, for example jobs/recipes/quickstart.yaml.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Changes to the recipe, for example train.learning_rate=0.0003."
    ),
]
WorkspaceRoot = Annotated[
    str | None,
    typer.Option(
        "--workspace",
        help="Path or URI for all outputs [default: $HELIOSTAT_WORKSPACE, else ./heliostat-workspace].",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="The head node's dashboard, such as http://127.0.0.1:8265 [default: $RAY_API_SERVER_ADDRESS]."
    ),
]
Until = Annotated[
    str | None, typer.Option(metavar="STAGE", help="Stop after this stage: data, train, evaluate, ...")
]


def check_until(recipe: "Recipe", until: str | None) -> None:
    """Refuse to stop after a stage that the recipe does not have, before anything is started.

    Raises:
        ConfigError: `until` is no stage of this recipe.
    """
    from heliostat.errors import ConfigError

    if until is not None and until not in recipe.stages:
        stages = ", ".join(recipe.stages) or "none"
        raise ConfigError(f"--until {until}: recipe '{recipe.name}' has no such stage; it has: {stages}")
