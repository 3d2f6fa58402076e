"""`heliostat models register`, `versions`, `promote`, `rollback`: numbers and aliases for models."""

from typing import Annotated, Literal

import typer

from heliostat.cli.arguments import WorkspaceRoot
from heliostat.cli.columns import print_columns

Bump = Literal["major", "minor", "patch", "prerelease"]


def register(
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="An artifact's id, its folder, or another version.")
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")],
    version: Annotated[
        str | None, typer.Option(help="Such as v1.2.3 or v1.2.3-alpha.20231001 [default: the next one].")
    ] = None,
    bump: Annotated[Bump, typer.Option(help="What to count up when no --version is given.")] = "minor",
    alias: Annotated[
        Literal["candidate"] | None, typer.Option(help="Let it bear this alias at once.")
    ] = None,
    workspace: WorkspaceRoot = None,
) -> None:
    """Give an artifact a version; its files stay where they are."""
    from heliostat.versions.registering import register_artifact
    from heliostat.workspace import Workspace

    place = Workspace.resolve(workspace)
    made = register_artifact(reference, name, place, version, bump, candidate=alias is not None)
    print(f"{made.reference}  {made.artifact_id}  {made.uri}")


def versions(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A model's name.")] = None,
    workspace: WorkspaceRoot = None,
) -> None:
    """List the versions of all models, or of one, the highest first."""
    from heliostat.versions.registry import Registry
    from heliostat.workspace import Workspace

    rows = [
        (
            each.name,
            str(each.version),
            ",".join(each.aliases),
            each.artifact_id,
            f"{each.created_at:%Y-%m-%d %H:%M}",
            each.uri,
        )
        for each in Registry(Workspace.resolve(workspace)).versions(name)
    ]
    print_columns(("NAME", "VERSION", "ALIASES", "ARTIFACT", "REGISTERED (UTC)", "WHERE"), rows)
