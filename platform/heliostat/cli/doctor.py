"""`heliostat doctor`: what is wrong here or with a cluster, and how to mend it."""

import json
from typing import Annotated

import typer

from heliostat.cli.arguments import WorkspaceRoot


def doctor(
    address: Annotated[
        str | None, typer.Option(help="Examine the cluster with this dashboard as well.")
    ] = None,
    workspace: WorkspaceRoot = None,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Run a small job on every node: storage, versions, clocks from inside."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Say what is wrong with this machine or a cluster, and how to mend it; exit code 1 if something is."""
    from heliostat.cli.checks import print_checks
    from heliostat.control.doctor import examine
    from heliostat.errors import ConfigError

    if deep and address is None:
        raise ConfigError("--deep looks at the nodes of a cluster; give its --address")
    found = examine(workspace, address, deep)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        print_checks(found.checks)
        wrong, doubtful = len(found.refusals), len(found.warnings)
        print(f"{wrong} to mend, {doubtful} to look at, {len(found.checks)} checked in {found.seconds:.1f} s")
    if found.refusals:
        raise typer.Exit(1)
