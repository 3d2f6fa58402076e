"""The benchmark's figures on the terminal."""

import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from tests.bench.bars import Verdict
from tests.bench.figures import agreement, median
from tests.bench.scoring import BINS, DedupScore
from tests.bench.session import Run, runs_of


def print_tables(
    runs: Sequence[Run], verdicts: Sequence[Verdict], summary: dict[str, Any], console: Console
) -> None:
    """Everything that was measured, medians over the repeats, and the bars."""
    runs = [run for run in runs if not run.failure]
    megabytes = summary["bytes"] / 1e6
    parts = dict.fromkeys(run.part for run in runs)
    if measured := [run for run in runs if run.usage]:
        console.print(_usage_table(measured, megabytes, summary["documents"]))
    if "dedup" in parts:
        console.print(_score_table([run for run in runs if run.part == "dedup" and "score" in run.figures]))
        console.print(_stage_table([run for run in runs if run.part == "dedup"], megabytes))
    for part, print_part in (("filters", _print_filters), ("personal data", _print_personal_data)):
        if part in parts:
            print_part(runs, console)
    if "tokenize" in parts:
        _print_tokenize(runs, console)
    console.print(bar_table(verdicts))


def _tools(runs: Sequence[Run]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((run.part, run.tool) for run in runs))


def _usage_table(runs: Sequence[Run], megabytes: float, documents: int) -> Table:
    table = Table(title=f"Runs over {documents:,} documents, {megabytes:.0f} MB of text (medians)")
    for column in ("part", "tool"):
        table.add_column(column)
    for column in ("runs", "wall s", "CPU s", "peak MB", "of it shared", "MB/s"):
        table.add_column(column, justify="right")
    for part, tool in _tools(runs):
        those = runs_of(runs, part, tool)
        wall = median(those, "wall_seconds")
        size = those[0].figures.get("megabytes", megabytes)
        figures = [
            str(len(those)),
            f"{wall:.1f}",
            f"{median(those, 'cpu_seconds'):.1f}",
            f"{median(those, 'peak_bytes') / 1e6:.0f}",
            f"{median(those, 'shared_bytes') / 1e6:.0f}",
            f"{size / wall:.2f}" if part not in ("demo data", "tokenize") else "",
        ]
        table.add_row(part, tool, *figures)
    return table


def _score_table(runs: Sequence[Run]) -> Table:
    """One column a tool: what was found, and what was deleted by mistake. The worst of the repeats."""
    tools = list(dict.fromkeys(run.tool for run in runs))
    scores: dict[str, DedupScore] = {
        tool: max((run.figures["score"] for run in runs if run.tool == tool), key=_mistakes) for tool in tools
    }
    table = Table(title="Dedup against the truth")
    table.add_column("")
    for tool in tools:
        table.add_column(tool, justify="right")
    table.add_row("exact copies found", *(str(scores[tool].exact) for tool in tools))
    for low, high in BINS:
        name = f"{low:.1f}-{high:.1f}"
        shares = (scores[tool].near[name] for tool in tools)
        table.add_row(f"near, J {name}", *(f"{share}  {share.value:.3f}" for share in shares))
    shares = (scores[tool].near_high for tool in tools)
    table.add_row("near, J from 0.8", *(f"{share}  {share.value:.3f}" for share in shares), end_section=True)
    for kind in next(iter(scores.values())).false_deletions:
        table.add_row(f"deleted: {kind}", *(str(scores[tool].false_deletions[kind]) for tool in tools))
    return table


def _mistakes(score: DedupScore) -> tuple[int, float]:
    return score.num_false_deletions, -score.near_high.value


def _stage_table(runs: Sequence[Run], megabytes: float) -> Table:
    table = Table(title="Dedup by stage")
    for column in ("tool", "stage"):
        table.add_column(column)
    for column in ("CPU s", "MB/s per core"):
        table.add_column(column, justify="right")
    for tool in dict.fromkeys(run.tool for run in runs):
        those = [run for run in runs if run.tool == tool]
        if rates := [run.figures["signature_rate"] for run in those if run.usage is None]:
            table.add_row(tool, "signatures", "", f"{statistics.median(rates):.2f}")
        steps = those[0].figures.get("cpu_seconds_by_step", {})
        for step in steps:
            seconds = statistics.median(run.figures["cpu_seconds_by_step"][step] for run in those)
            rate = f"{megabytes / seconds:.2f}" if seconds > 0.05 else ""
            table.add_row(tool, step, f"{seconds:.1f}", rate)
    return table


def _print_filters(runs: Sequence[Run], console: Console) -> None:
    table = Table(title="Filters and personal data")
    table.add_column("tool")
    for column in ("documents/s", "kept"):
        table.add_column(column, justify="right")
    for part, tool in _tools([run for run in runs if run.part == "filters"]):
        those = runs_of(runs, part, tool)
        kept = those[0].figures.get("kept")
        rate = median(those, "documents_per_second")
        table.add_row(tool, f"{rate:,.0f}", f"{len(kept):,}" if kept is not None else "")
    console.print(table)
    console.print(f"Kept by both, of what either keeps: {agreement(runs):.1%}")


def _print_personal_data(runs: Sequence[Run], console: Console) -> None:
    those = [run for run in runs if run.part == "personal data"]
    table = Table(title="Planted personal data found")
    table.add_column("kind")
    for run in those:
        table.add_column(run.tool, justify="right")
    for kind in those[0].figures["found"]:
        table.add_row(kind, *(str(run.figures["found"][kind]) for run in those))
    console.print(table)


def _print_tokenize(runs: Sequence[Run], console: Console) -> None:
    table = Table(title="Tokenizing, MB/s per core")
    table.add_column("tool")
    table.add_column("MB/s", justify="right")
    for part, tool in _tools([run for run in runs if run.part == "tokenize"]):
        those = runs_of(runs, part, tool)
        size = those[0].figures["bytes"] / 1e6
        table.add_row(tool, f"{size / median(those, 'cpu_seconds'):.2f}")
        if "encode_batch_cpu_seconds" in those[0].figures:
            reference = median(those, "encode_batch_cpu_seconds")
            table.add_row("tokenizers.encode_batch", f"{size / reference:.2f}")
    console.print(table)


def bar_table(verdicts: Sequence[Verdict]) -> Table:
    """A line for each bar: the figure, the limit, and whether it is cleared."""
    signs = {"ge": ">=", "le": "<=", "eq": "=", "lt": "<"}
    table = Table(title="Bars")
    table.add_column("promise")
    for column in ("measured", "asked", ""):
        table.add_column(column, justify="right")
    for verdict in verdicts:
        bar = verdict.bar
        colour = "green" if verdict.cleared else "red"
        word = "cleared" if verdict.cleared else "missed"
        note = f"[{colour}]{word}[/]" if verdict.counts else f"[dim]{word}, but counts from scale 1 on[/]"
        table.add_row(
            bar.text, f"{verdict.value:.4g}", f"{signs[bar.compare.__name__]} {bar.limit:.4g}", note
        )
    return table
