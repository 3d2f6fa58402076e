"""`heliostat train`: look at a training run before it runs."""

from typing import Annotated

import typer

from heliostat.cli.arguments import Overrides, RecipePath, WorkspaceRoot

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

    from heliostat.planning import plan_run, run_named
    from heliostat.recipe import Recipe
    from heliostat.training.plan_devices import NODES, this_machine
    from heliostat.training.plan_page import print_plan
    from heliostat.workspace import Workspace

    loaded = Recipe.load(recipe, tuple(overrides or ()))
    run = run_named(loaded, stage)
    nodes = (*NODES, this_machine(run.train.cpus_per_worker, tflops))
    found = plan_run(loaded, run, Workspace.resolve(workspace), nodes)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        print_plan(found)
