"""`heliostat validate` and `heliostat config`: recipes looked at without a cluster."""

import json
from typing import Annotated, Any, Literal, get_args

import typer

from heliostat.cli.arguments import Overrides, RecipePath

app = typer.Typer(help="Look at recipes and their keys.", rich_markup_mode=None, no_args_is_help=True)

Section = Literal["model", "pretrain", "data", "tune", "train", "evaluate", "compress", "serve", "recipe"]


def validate(recipe: RecipePath, overrides: Overrides = None) -> None:
    """Check a recipe in seconds, without a cluster."""
    from heliostat.recipe import Recipe, check_recipe

    for finding in check_recipe(Recipe.load(recipe, tuple(overrides or ()))):
        print(finding)
    print(f"{recipe}: valid")


@app.command()
def schema(
    stage: Annotated[Section, typer.Argument(metavar="STAGE", help=", ".join(get_args(Section)))],
) -> None:
    """Print the JSON Schema of a section of recipes, or of whole ones ("recipe")."""
    from pydantic import TypeAdapter

    from heliostat.recipe import Recipe

    config: Any = Recipe
    if stage != "recipe":
        variants = get_args(Recipe.model_fields[stage].annotation)
        config = next(variant for variant in variants if variant not in (type(None), ...))
    print(json.dumps(TypeAdapter(config).json_schema(), indent=2))


@app.command()
def show(recipe: RecipePath, overrides: Overrides = None) -> None:
    """Print a recipe as it will be run: bases, overrides and defaults in place."""
    import yaml

    from heliostat.recipe import Recipe

    values = Recipe.load(recipe, tuple(overrides or ())).model_dump(mode="json")
    print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), end="")
