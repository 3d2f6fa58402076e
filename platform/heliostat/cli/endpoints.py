"""`heliostat endpoints`: what serves, and saying that one is gone."""

from typing import Annotated

import typer

from heliostat.cli.arguments import WorkspaceRoot
from heliostat.cli.columns import print_columns

app = typer.Typer(
    help="List the endpoints on record, and say that one is gone.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.command("list")
def list_all(workspace: WorkspaceRoot = None) -> None:
    """List the endpoints on record, by name."""
    from heliostat.endpoints import read_deployments
    from heliostat.workspace import Workspace

    rows = [
        (
            each.endpoint.name,
            each.status,
            f"{each.started_at:%Y-%m-%d %H:%M}",
            each.artifact_id,
            each.endpoint.url,
        )
        for each in read_deployments(Workspace.resolve(workspace))
    ]
    print_columns(("NAME", "STATUS", "STARTED (UTC)", "ARTIFACT", "WHERE"), rows)


@app.command()
def forget(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="An endpoint, as 'heliostat endpoints list' prints it.")
    ],
    workspace: WorkspaceRoot = None,
) -> None:
    """Say that an endpoint is gone, so that nothing is kept for it; refused while it can be seen to run."""
    from heliostat.control.endpoint_actions import forget as forget_endpoint
    from heliostat.control.roles import local_actor
    from heliostat.workspace import Workspace

    print(forget_endpoint(local_actor(), Workspace.resolve(workspace), name).said)
