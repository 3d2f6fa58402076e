"""`heliostat train`: look at a training run before it runs."""

from typing import TYPE_CHECKING, Annotated

import typer

from heliostat.cli.arguments import Overrides, RecipePath, WorkspaceRoot

if TYPE_CHECKING:
    from heliostat.recipe import Recipe
    from heliostat.training.plan_inputs import PlanInputs

app = typer.Typer(help="Look at a training run before it runs.", rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `plan` a command of a group though it is the only one."""


@app.command()
def plan(
    recipe: RecipePath,
    overrides: Overrides = None,
    workspace: WorkspaceRoot = None,
    tflops: Annotated[
        float | None,
        typer.Option(min=0.001, help="This machine's peak in float32 [default: measured in 0.3 s]."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Say what a run needs and takes, and where it fits: no cluster, no weights."""
    import json

    from heliostat.recipe import Recipe
    from heliostat.training.plan import plan_training
    from heliostat.training.plan_devices import NODES, this_machine
    from heliostat.training.plan_page import print_plan

    loaded = Recipe.load(recipe, tuple(overrides or ()))
    config = loaded.train
    if config is None:
        from heliostat.errors import ConfigError

        raise ConfigError(f"{recipe}: has no 'train:' section to plan")
    nodes = (*NODES, this_machine(config.cpus_per_worker, tflops))
    found = plan_training(config, _inputs(loaded, workspace), nodes)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        print_plan(found)


def _inputs(recipe: "Recipe", workspace: str | None) -> "PlanInputs":
    """What the workspace and the recipe tell of the model and of the data."""
    from heliostat.training.plan_inputs import PlanInputs, find_dataset, shape_of_model
    from heliostat.workspace import Workspace

    assert recipe.model is not None  # the recipe was checked: 'train:' needs a 'model:' and a 'data:'
    assert recipe.data is not None
    place = Workspace.resolve(workspace)
    tokenize = recipe.data.tokenize
    inputs = PlanInputs.of(
        shape_of_model(recipe.model, place),
        tokenize.max_sequence_length,
        len(recipe.added_tokens),
        tokenize.packing,
    )
    return inputs.with_dataset(find_dataset(place, recipe.data.name, recipe.data.packing.canonical()))
