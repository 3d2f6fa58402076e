"""`heliostat runs`: what was run in the workspace, and how it went."""

from typing import Annotated

import typer

from heliostat.cli.arguments import WorkspaceRoot
from heliostat.cli.columns import print_columns

app = typer.Typer(help="List and show runs of the workspace.", rich_markup_mode=None, no_args_is_help=True)


@app.command("list")
def list_all(workspace: WorkspaceRoot = None) -> None:
    """List the runs of the workspace, the latest first."""
    from heliostat.control.inventory import list_runs
    from heliostat.workspace import Workspace

    rows = []
    for run in list_runs(Workspace.resolve(workspace)):
        took = f"{(run.finished_at - run.started_at).total_seconds():.0f}" if run.finished_at else ""
        rows.append((run.id, run.status, f"{run.started_at:%Y-%m-%d %H:%M}", took, " ".join(run.outputs)))
    print_columns(("ID", "STATUS", "STARTED (UTC)", "SECONDS", "OUTPUTS"), rows)


@app.command()
def show(
    run_id: Annotated[
        str, typer.Argument(metavar="ID", help="A run's id, as 'heliostat runs list' prints it.")
    ],
    workspace: WorkspaceRoot = None,
) -> None:
    """Print a run's record: its config, inputs, outputs, metrics and provenance."""
    import yaml

    from heliostat.control.inventory import show_run
    from heliostat.workspace import Workspace

    record = show_run(Workspace.resolve(workspace), run_id).model_dump(mode="json")
    print(yaml.safe_dump(record, sort_keys=False, allow_unicode=True), end="")
