"""Progress of long work: a bar with an estimate, or plain lines where there is no terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LINE_EVERY_SECONDS = 10.0


class Report(Protocol):
    """Call with the amount done so far and, if there is one, a short note (the loss, the rate)."""

    def __call__(self, done: float, note: str = "") -> None:
        """Show that `done` of the total is finished."""


@contextmanager
def progress(title: str, total: float | None, unit: str) -> Iterator[Report]:
    """Show work of `total` `unit`s. Without a terminal, a line at most every ten seconds goes to stderr."""
    if sys.stderr.isatty():
        with _bar(title, total, unit) as report:
            yield report
    else:
        yield _lines(title, total, unit)


@contextmanager
def _bar(title: str, total: float | None, unit: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=total, note="")

        def report(done: float, note: str = "") -> None:
            bars.update(task, completed=done, note=note)

        yield report


def _lines(title: str, total: float | None, unit: str) -> Report:
    last = time.monotonic()
    first: tuple[float, float] | None = None  # (when, how much): what came before it was warming up

    def report(done: float, note: str = "") -> None:
        nonlocal first, last
        present = time.monotonic()
        if first is None and done:
            first = (present, done)
        if present - last < LINE_EVERY_SECONDS:
            return
        last = present
        left = ""
        if total and first and done > first[1]:
            left = f", {(present - first[0]) * (total - done) / (done - first[1]):.0f} s left"
        amount = f"{done:.0f}/{total:.0f}" if total else f"{done:.0f}"
        print(f"  {title}: {amount} {unit}{left} {note}".rstrip(), file=sys.stderr, flush=True)

    return report
