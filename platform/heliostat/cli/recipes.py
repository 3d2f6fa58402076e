"""`heliostat validate` and `heliostat config`: recipes looked at before they run."""

import json
import sys
from typing import Annotated, Any, Literal, get_args

import typer

from heliostat.cli.arguments import Overrides, RecipePath, Until, WorkspaceRoot, check_until

app = typer.Typer(help="Look at recipes and their keys.", rich_markup_mode=None, no_args_is_help=True)

Section = Literal["model", "pretrain", "data", "tune", "train", "evaluate", "compress", "serve", "recipe"]


def validate(
    recipe: RecipePath,
    overrides: Overrides = None,
    address: Annotated[
        str | None, typer.Option(help="Check it against the cluster with this dashboard, too.")
    ] = None,
    workspace: WorkspaceRoot = None,
    until: Until = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Check a recipe in seconds: its keys, data, memory, disk and, with --address, the cluster."""
    from heliostat.cli.checks import print_checks
    from heliostat.control.preflight import lines_of, preflight
    from heliostat.errors import ConfigError
    from heliostat.recipe import Recipe

    loaded = Recipe.load(recipe, tuple(overrides or ()))
    check_until(loaded, until)
    found = preflight(loaded.up_to(until), workspace=workspace, address=address)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
        raise typer.Exit(2 if found.refusals else 0)
    for line in found.findings:
        print(line)
    print_checks([check for check in found.checks if "findings" not in check.facts])
    if found.refusals:
        sys.stdout.flush()
        raise ConfigError("\n".join(lines_of(found.refusals)))
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
