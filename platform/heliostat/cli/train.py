"""`heliostat train`: look at a training run before it runs."""

from typing import TYPE_CHECKING, Annotated

import typer

from heliostat.cli.arguments import Overrides, RecipePath, WorkspaceRoot

if TYPE_CHECKING:
    from heliostat.recipe import Recipe, Training
    from heliostat.training.config import TrainConfig
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
    stage: Annotated[
        str | None, typer.Option(help="A stage of 'pretrain:' [default: 'train:', else the first stage].")
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
    run = _run_of(loaded, stage)
    inputs = _inputs(loaded, run, workspace)
    nodes = (*NODES, this_machine(run.train.cpus_per_worker, tflops))
    found = plan_training(_within_budget(run, inputs), inputs, nodes)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        print_plan(found)


def _run_of(recipe: "Recipe", stage: str | None) -> "Training":
    """The run of this name; without one `train`, else the first stage of pre-training."""
    from heliostat.errors import ConfigError

    runs = {run.name: run for run in recipe.trainings}
    if not runs:
        raise ConfigError(f"recipe {recipe.name!r} has no 'train:' and no 'pretrain:' section to plan")
    name = stage or ("train" if "train" in runs else next(iter(runs)))
    if name not in runs:
        raise ConfigError(f"--stage {name}: recipe {recipe.name!r} has {', '.join(runs)}")
    return runs[name]


def _inputs(recipe: "Recipe", run: "Training", workspace: str | None) -> "PlanInputs":
    """What the workspace and the recipe tell of the model and of the data."""
    from heliostat.training.plan_inputs import PlanInputs, find_dataset, shape_of_model
    from heliostat.workspace import Workspace

    assert recipe.model is not None  # the recipe was checked: whoever trains has a model
    place = Workspace.resolve(workspace)
    tokenize = run.data.tokenize
    inputs = PlanInputs.of(
        shape_of_model(recipe.model, place),
        tokenize.max_sequence_length,
        len(recipe.added_tokens),
        tokenize.packing,
    )
    return inputs.with_dataset(find_dataset(place, run.data.name, run.data.packing.canonical()))


def _within_budget(run: "Training", inputs: "PlanInputs") -> "TrainConfig":
    """The run with as many steps as its tokens pay for; of rows that are full, as long as none are there."""
    if run.max_tokens is None:
        return run.train
    from heliostat.training.budget import steps_within

    found = inputs.dataset
    tokens, rows = (found.tokens, found.sequences) if found else (inputs.max_sequence_length, 1)
    steps = steps_within(run.max_tokens, tokens, rows, run.train.sequences_per_step)
    return run.train.model_copy(update={"max_steps": steps})
