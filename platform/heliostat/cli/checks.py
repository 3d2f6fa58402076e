"""Checks as a table for a terminal or a pipe: a mark, a name, what is, and below it how to mend it."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heliostat.control.checks import Check
    from heliostat.recipe import Recipe

MARKS = {"ok": "ok", "warning": "WARN", "refused": "NO", "skipped": "-"}
COLOURS = {"ok": "green", "warning": "yellow", "refused": "red", "skipped": "dim"}
MARK_WIDTH = 4
SAMPLE_CHARACTERS = 500


def print_checks(checks: "Sequence[Check]") -> None:
    """Print the table to standard output."""
    from rich.console import Console
    from rich.text import Text

    from heliostat.data.source_drawing import runs_text

    console = Console(highlight=False, soft_wrap=True)
    width = max((len(check.name) for check in checks), default=0)
    for check in checks:
        line = Text()
        line.append(f"{MARKS[check.status]:{MARK_WIDTH}}  ", style=COLOURS[check.status])
        line.append(f"{check.name:{width}}  {check.says}")
        console.print(line)
        if check.mend:
            console.print(Text(f"{'':{MARK_WIDTH}}  {'':{width}}  -> {check.mend}", style="bold"))
        if runs := check.facts.get("runs"):
            sample = runs_text(runs, bool(console.color_system), SAMPLE_CHARACTERS)
            sample.rstrip()
            console.print(sample)


def warn_before_submit(address: str, recipe: "Recipe", workspace: str | None) -> None:
    """Print on stderr what a submission is warned of.

    Raises:
        ConfigError, ClusterError: what stands in its way, a line each.
    """
    from heliostat.control.preflight import check_before_submit, lines_of

    for line in lines_of(check_before_submit(address, recipe, workspace)):
        print(f"heliostat: warning: {line}", file=sys.stderr, flush=True)
