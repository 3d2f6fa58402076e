"""`heliostat gc`: what nobody refers to, and removing it."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from heliostat.cli.arguments import WorkspaceRoot
from heliostat.cli.columns import print_columns

if TYPE_CHECKING:
    from heliostat.versions.garbage import Item


def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; otherwise it is only said.")] = False,
    keep_days: Annotated[float, typer.Option(min=0, help="Keep also what was made within so many days.")] = 0,
    workspace: WorkspaceRoot = None,
) -> None:
    """Find what no version, alias, endpoint or running job refers to; with --delete, remove it."""
    from heliostat.versions.garbage import collect_garbage
    from heliostat.workspace import Workspace

    items = collect_garbage(Workspace.resolve(workspace), delete, keep_days)
    small = Counter(item.reason for item in items if item.what == "lock")
    shown = sorted((item for item in items if item.what != "lock"), key=lambda each: (each.goes, each.path))
    print_columns(("", "WHAT", "MB", "WHERE", "WHY"), [_row(item) for item in shown])
    going = [item for item in items if item.goes]
    freed = f"{sum(item.bytes for item in going) / 1e6:.1f} MB in {len(going) - small.total()} things"
    locks = f" and {small.total()} stale locks" if small else ""
    if delete:
        print(f"removed: {freed}{locks}")
    else:
        print(f"nothing was removed; 'heliostat gc --delete' frees {freed}{locks}")


def _row(item: "Item") -> tuple[str, ...]:
    return ("goes" if item.goes else "keep", item.what, f"{item.bytes / 1e6:.1f}", item.path, item.reason)
