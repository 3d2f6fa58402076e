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


def card(
    reference: Ref,
    write: Annotated[
        bool, typer.Option("--write", help="Keep it in the workspace's cards/, beside printing where.")
    ] = False,
    workspace: WorkspaceRoot = None,
) -> None:
    """Print a model card, written from the records."""
    from heliostat.versions.card import model_card
    from heliostat.versions.contents import Contents
    from heliostat.versions.names import looks_like_reference
    from heliostat.versions.registry import Registry
    from heliostat.versions.resolving import artifact_of, find_version, resolve_artifact
    from heliostat.workspace import Workspace

    place = Workspace.resolve(workspace)
    version = find_version(reference, Registry(place)) if looks_like_reference(reference) else None
    artifact = artifact_of(version, place) if version else resolve_artifact(reference, place)
    text = model_card(artifact, version, Contents.read(place))
    if not write:
        print(text, end="")
        return
    path = f"cards/{version.reference if version else artifact.id}.md"
    place.storage.write_bytes(path, text.encode())
    print(place.storage.uri(path))
