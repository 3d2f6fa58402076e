"""`heliostat models lineage` and `heliostat models card`: what the records tell of a model."""

from typing import Annotated

import typer

from heliostat.cli.arguments import WorkspaceRoot

Ref = Annotated[
    str,
    typer.Argument(
        metavar="REF",
        help="NAME@production, NAME@v1.2.3, an artifact's id or folder; see the command's help.",
    ),
]


def lineage(
    reference: Ref,
    down: Annotated[bool, typer.Option("--down", help="What was made of it, not from what.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print nodes and edges as JSON.")] = False,
    workspace: WorkspaceRoot = None,
) -> None:
    """Show what a version, artifact, endpoint or run was made from; --down: what was made of it."""
    import json

    from heliostat.versions.contents import Contents
    from heliostat.versions.lineage import Lineage
    from heliostat.versions.tree import tree_lines
    from heliostat.workspace import Workspace

    place = Workspace.resolve(workspace)
    found = Lineage.of(Contents.read(place))
    start = found.find(reference, place).id
    if as_json:
        print(json.dumps(found.to_json(start, down), indent=2))
        return
    for line in tree_lines(found, start, down):
        print(line)
