"""`heliostat models register`, `versions`, `promote`, `rollback`, `delete`: numbers and aliases."""

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


def promote(
    reference: Annotated[str, typer.Argument(metavar="NAME@WHICH", help="Such as chat@candidate.")],
    to: Annotated[Literal["candidate", "staging", "production"], typer.Option(help="The alias to bear.")],
    margin: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=SHARE", help="How much worse it may be, such as perplexity=0.03."),
    ] = None,
    default_margin: Annotated[float, typer.Option(min=0, help="The same for all other metrics.")] = 0.01,
    no_gate: Annotated[
        bool, typer.Option("--no-gate", help="Promote it unproved; this is recorded.")
    ] = False,
    workspace: WorkspaceRoot = None,
) -> None:
    """Let a version bear an alias, if reports prove that it is no worse than production."""
    from heliostat.promotion import Gate, promote
    from heliostat.workspace import Workspace

    gate = Gate(_margins(margin or []), default_margin, no_gate)
    done = promote(reference, to, Workspace.resolve(workspace), gate)
    rows = [
        (each.suite, each.metric, f"{each.value_a:.4g}", f"{each.value_b:.4g}", f"{each.worse_by:+.2%}")
        for each in done.comparisons
    ]
    if rows:
        print_columns(("SUITE", "METRIC", "PRODUCTION", str(done.version.version), "WORSE BY"), rows)
    instead = f", instead of {done.event.replaced}" if done.event.replaced else ""
    print(
        f"{done.version.reference} is {to} now{instead}"
        + (f"; gate: {done.event.gate}" * bool(done.event.gate))
    )


def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model's name.")],
    alias: Annotated[
        Literal["candidate", "staging", "production"], typer.Option(help="The alias to give back.")
    ] = "production",
    workspace: WorkspaceRoot = None,
) -> None:
    """Give production back to the version that bore it before."""
    from heliostat.versions.registry import Registry
    from heliostat.workspace import Workspace

    event = Registry(Workspace.resolve(workspace)).roll_back(name, alias)
    print(f"{name}@{event.version} is {alias} again, instead of {event.replaced}")


def delete(
    reference: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="Such as chat@v1.2.3.")],
    workspace: WorkspaceRoot = None,
) -> None:
    """Delete a version that bears no alias and that no endpoint serves; its number stays taken."""
    from heliostat.versions.deleting import delete_version
    from heliostat.workspace import Workspace

    gone = delete_version(reference, Workspace.resolve(workspace))
    print(
        f"{gone.reference} is deleted, and its number stays taken; 'heliostat gc' says if {gone.artifact_id} "
        "is still referred to"
    )


def _margins(given: list[str]) -> dict[str, float]:
    from heliostat.errors import ConfigError

    margins = {}
    for text in given:
        metric, mark, share = text.partition("=")
        try:
            margins[metric] = float(share)
        except ValueError:
            mark = ""
        if not mark or not metric or not 0 <= margins[metric] < float("inf"):
            raise ConfigError(f"--margin {text}: write METRIC=SHARE, such as perplexity=0.03")
    return margins
