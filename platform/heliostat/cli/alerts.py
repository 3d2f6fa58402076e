"""`heliostat alerts`: what went wrong, since when, what may help; and saying that somebody looks after it."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from heliostat.cli.arguments import WorkspaceRoot
from heliostat.cli.columns import print_columns

if TYPE_CHECKING:
    from heliostat.control.alerts import Alert
    from heliostat.control.store import Store

app = typer.Typer(help="See what went wrong, and say that you look after it.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything that is known, as JSON.")] = False,
    workspace: WorkspaceRoot = None,
) -> None:
    """Show the open alerts, the newest first, and say that you look after one."""
    if context.invoked_subcommand is not None:
        return
    from heliostat.control.alerts import find_alerts
    from heliostat.control.sites import Site

    site = Site.open(workspace)
    found = find_alerts(site.store, open_only=not every)
    if as_json:
        print(json.dumps([alert.model_dump(mode="json") for alert in found], indent=2))
    else:
        _print_alerts(found)
    _say_how_it_is_known(site.store)


@app.command()
def acknowledge(
    context: typer.Context,
    alert_id: Annotated[
        str, typer.Argument(metavar="ID", help="An alert's id, as 'heliostat alerts' prints it.")
    ],
    workspace: WorkspaceRoot = None,
) -> None:
    """Say that somebody looks after an alert; it closes by itself when its cause is gone."""
    from heliostat.control.alerts import acknowledge as acknowledge_alert
    from heliostat.control.roles import local_actor
    from heliostat.control.sites import Site

    given = context.parent.params.get("workspace") if context.parent else None
    alert = acknowledge_alert(Site.open(workspace or given), local_actor(), alert_id)
    print(f"{alert.id} {alert.rule} acknowledged by {alert.acknowledged_by}")


def _print_alerts(found: Sequence["Alert"]) -> None:
    if not found:
        print("No alerts.")
        return
    rows = [
        (
            alert.id,
            alert.rule,
            f"{alert.since:%Y-%m-%d %H:%M}",
            f"{alert.until:%Y-%m-%d %H:%M}" if alert.until else "open",
            alert.acknowledged_by or "-",
            alert.subject,
        )
        for alert in found
    ]
    print_columns(("ID", "ALERT", "SINCE (UTC)", "UNTIL", "SEEN BY", "WHERE"), rows)
    for alert in found:
        print(f"\n{alert.id} {alert.rule}: {alert.text}")
        print(f"  {alert.mend}" + (f" (see {alert.runbook})" if alert.runbook else ""))


def _say_how_it_is_known(store: "Store") -> None:
    """Nobody looks, or a rule could not: no alert is then no good news."""
    from heliostat.control.alert_watch import STALE_SECONDS, read_watch
    from heliostat.control.readings import Ok, latest

    reading = read_watch(store)
    known = latest(reading)
    if known is None or known.age_seconds > STALE_SECONDS:
        since = f" since {known.at:%Y-%m-%d %H:%M} UTC" if known else ""
        who = "'heliostat control' or the dashboard does"
        print(f"heliostat: nobody looks for what is wrong here{since}; {who}", file=sys.stderr)
    for note in reading.value.notes if isinstance(reading, Ok) else ():
        print(f"heliostat: {note}", file=sys.stderr)
