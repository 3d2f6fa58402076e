"""The serving benchmark's figures on the terminal."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from tests.bench.bars import Verdict
from tests.bench.printing import bar_table
from tests.bench.serving_bars import OURS, TARGET_QPS, TARGET_SECONDS, cores_for, median, percentile, pooled

Row = Mapping[str, Any]


def print_report(
    rows: Sequence[Row], verdicts: Sequence[Verdict], failures: Sequence[str], console: Console
) -> None:
    """What was measured, the bars, and what could not be measured."""
    for part, title in (("engines", "Engines and servers, 64 new tokens"), ("first_token", "First token")):
        those = [row for row in rows if row["part"] == part]
        if those:
            console.print(_engines_table(those, title))
    gateway = [row for row in rows if row["part"] == "gateway" and "streams" in row]
    if gateway:
        console.print(_rate_table(gateway, "The gateway in front of an echo"))
    qps = [row for row in rows if row["part"] == "qps"]
    if qps:
        console.print(_rate_table(qps, "Answers of 16 tokens to prompts of 32"))
        console.print(cores_line(qps, os.cpu_count() or 1))
    for row in rows:
        if row["part"] == "cache":
            times = [1000 * seconds for seconds in row["whole_seconds"]]
            half, most = percentile(times, 0.5), percentile(times, 0.99)
            console.print(f"Cache, {row['hits']} {row['side']} hits: p50 {half:.1f} ms, p99 {most:.1f} ms")
    console.print(bar_table(verdicts))
    for failure in failures:
        console.print(f"[red]FAILED[/] {failure}", markup=True)


def cores_line(rows: Sequence[Row], cores: int) -> str:
    """How many cores it would take for the goal, or that this machine does not say."""
    goal = f"{TARGET_QPS} requests/s with a p99 of {1000 * TARGET_SECONDS:.0f} ms"
    needed = cores_for(rows, cores)
    if needed is None:
        return f"{goal}: not even one stream keeps within that time here, so more cores alone will not do"
    return f"{goal}: computed to hold from {needed} such cores on"


def _engines_table(rows: Sequence[Row], title: str) -> Table:
    table = Table(title=f"{title} (medians; times over the requests of all repeats)")
    for column in ("prompt", "streams", "side"):
        table.add_column(column, justify="left" if column == "side" else "right")
    for column in ("tokens/s", "from-to", "requests/s", "TTFT p50", "p99", "whole p50", "p99"):
        table.add_column(column, justify="right")
    for column in ("CPU ms/token", "MB"):
        table.add_column(column, justify="right")
    groups = dict.fromkeys((row["prompt_tokens"], row["streams"]) for row in rows)
    for prompt_tokens, streams in sorted(groups):
        those = [row for row in rows if (row["prompt_tokens"], row["streams"]) == (prompt_tokens, streams)]
        for side in dict.fromkeys(row["side"] for row in those):
            runs = [row for row in those if row["side"] == side]
            table.add_row(str(prompt_tokens), str(streams), _emphasised(side), *_cells(runs))
        table.add_section()
    return table


def _cells(runs: Sequence[Row]) -> list[str]:
    speeds = [row["tokens_per_second"] for row in runs]
    times = [
        _time(pooled(runs, figure, share))
        for figure in ("first_seconds", "whole_seconds")
        for share in (0.5, 0.99)
    ]
    return [
        f"{median(runs, 'tokens_per_second'):.1f}",
        f"{min(speeds):.0f}-{max(speeds):.0f}",
        f"{median(runs, 'requests_per_second'):.2f}",
        *times,
        f"{1000 * median(runs, 'cpu_seconds_per_token'):.1f}",
        f"{max(row['peak_bytes'] for row in runs) / 1e6:.0f}",
    ]


def _rate_table(rows: Sequence[Row], title: str) -> Table:
    table = Table(title=title)
    table.add_column("side")
    for column in ("streams", "requests/s", "p50 ms", "p99 ms", "CPU ms/request"):
        table.add_column(column, justify="right")
    for side, streams in dict.fromkeys((row["side"], row["streams"]) for row in rows):
        runs = [row for row in rows if (row["side"], row["streams"]) == (side, streams)]
        table.add_row(
            _emphasised(side),
            str(streams),
            f"{median(runs, 'requests_per_second'):.1f}",
            f"{1000 * pooled(runs, 'whole_seconds', 0.5):.1f}",
            f"{1000 * pooled(runs, 'whole_seconds', 0.99):.1f}",
            f"{1000 * median(runs, 'cpu_seconds_per_request'):.2f}",
        )
    return table


def _emphasised(side: str) -> str:
    return f"[bold]{side}[/]" if side == OURS else side


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
