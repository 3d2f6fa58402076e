"""`heliostat review`: requests that wait for a person's decision."""

from typing import TYPE_CHECKING, Annotated

import typer

from heliostat.cli.arguments import WorkspaceRoot
from heliostat.cli.columns import print_columns

if TYPE_CHECKING:
    from heliostat.control.review import ReviewItem
    from heliostat.control.roles import Actor

app = typer.Typer(
    help="Decide about requests that a rule of the guard holds for review.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

ItemId = Annotated[
    str, typer.Argument(metavar="ID", help="An id that 'heliostat review list' prints, or how it begins.")
]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept with the decision.")]
By = Annotated[str | None, typer.Option("--by", help="Who decides [default: the user's name].")]
_SHOWN = 50


@app.command("list")
def list_all(
    every: Annotated[bool, typer.Option("--all", help="Also what is decided.")] = False,
    workspace: WorkspaceRoot = None,
) -> None:
    """List the requests that wait, oldest first."""
    from heliostat.control.review import list_reviews
    from heliostat.workspace import Workspace

    items = list_reviews(Workspace.resolve(workspace), None if every else "pending")
    rows = [
        (
            item.id[:12],
            item.status,
            _time(item.created),
            item.tenant,
            item.model,
            ",".join(item.rules),
            _on_one_line(item),
        )
        for item in items
    ]
    print_columns(("ID", "STATUS", "ASKED (UTC)", "TENANT", "MODEL", "RULES", "TEXT"), rows)


@app.command()
def show(item: ItemId, workspace: WorkspaceRoot = None) -> None:
    """Show a request in full."""
    from heliostat.control.review import show_review
    from heliostat.workspace import Workspace

    found = show_review(Workspace.resolve(workspace), item)
    print(f"{found.id}: {found.status}, held by {', '.join(found.rules)}")
    print(f"asked by {_plain(found.tenant)} of {_plain(found.model)} at {_time(found.created)} UTC")
    if found.decided is not None:
        reason = f": {_plain(found.reason)}" if found.reason else ""
        print(f"{found.status} by {_plain(found.by or '')} at {_time(found.decided)} UTC{reason}")
    for number, text in enumerate(found.texts, 1):
        print(f"--- text {number} of {len(found.texts)}")
        print("\n".join(map(_plain, text.split("\n"))))


@app.command()
def approve(item: ItemId, reason: Reason = "", by: By = None, workspace: WorkspaceRoot = None) -> None:
    """Let a request through when the same tenant asks it again."""
    from heliostat.control import review
    from heliostat.workspace import Workspace

    decided = review.approve(_actor(by), Workspace.resolve(workspace), item, reason)
    print(f"{decided.id[:12]} is approved; {decided.tenant} may ask it again")


@app.command()
def reject(item: ItemId, reason: Reason = "", by: By = None, workspace: WorkspaceRoot = None) -> None:
    """Refuse a request whenever it is asked."""
    from heliostat.control import review
    from heliostat.workspace import Workspace

    decided = review.reject(_actor(by), Workspace.resolve(workspace), item, reason)
    print(f"{decided.id[:12]} is rejected")


def _actor(by: str | None) -> "Actor":
    from dataclasses import replace

    from heliostat.control.roles import local_actor

    return replace(local_actor(), user=by) if by else local_actor()


def _time(seconds: float) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def _on_one_line(item: "ReviewItem") -> str:
    text = " ".join(" ".join(item.texts).split())
    return _plain(text[:_SHOWN] + ("..." if len(text) > _SHOWN else ""))


def _plain(text: str) -> str:
    """The text without what could steer a terminal: somebody hostile may have written it."""
    return "".join(each if each.isprintable() or each == "\t" else "\ufffd" for each in text)
