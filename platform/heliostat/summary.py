"""What a chain prints: a line for each stage while it runs, the table and the answer at its end."""

import json
import shlex
import sys
import time
from typing import Any, Self

from rich.console import Console
from rich.table import Table

from heliostat.records import Artifact, Count, Receipt, total
from heliostat.serving.ask import stream_answer
from heliostat.serving.run import Endpoint

MEGA = 1_000_000
_console = Console(highlight=False, soft_wrap=True)


class StageLine:
    """Prints what a stage is when it starts off a terminal, and what came of it when it ends."""

    def __init__(self, title: str) -> None:
        """`title` carries the step's number, such as `[2/6] data`."""
        self._title = title
        self._started = time.monotonic()
        self.result: Any = None
        self.found = False

    def __enter__(self) -> Self:
        """Start the clock."""
        if not sys.stderr.isatty():  # on a terminal the progress bar says what is going on
            print(f"{self._title} ...", file=sys.stderr, flush=True)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Print the line, unless the stage failed."""
        if error is None:
            seconds = time.monotonic() - self._started
            how = "unchanged, found" if self.found else f"{seconds:.1f} s"
            _console.print(f"{self._title:<16} {describe(self.result)} [dim]({how})[/]")


def describe(result: Any) -> str:
    """One line about what a stage made."""
    if isinstance(result, Endpoint):
        return f"answers at {result.url}/v1 as '{result.model_id}'"
    if not isinstance(result, Artifact):
        return ""
    facts = result.facts
    if result.kind in ("dataset", "tokenized"):
        receipt = Receipt.model_validate(facts["receipt"])
        kept, dropped = total(receipt.kept), total(receipt.dropped)
        read = f"{receipt.read.documents:,} documents read"
        return f"{read}, {_amount(kept)} kept, {dropped.documents:,} dropped"
    if "last_loss" in facts:
        return (
            f"{facts['steps']} steps, loss {facts['first_loss']:.3f} -> {facts['last_loss']:.3f}, "
            f"{facts['trainable_parameters']:,} of {facts['all_parameters']:,} parameters, "
            f"{facts['tokens_per_second']:.0f} tokens/s"
        )
    if result.kind == "report" and "importances" in facts:
        best, tried = facts["best"], ", ".join(f"{count} {how}" for how, count in facts["trials"].items())
        point = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in best["point"].items())
        last = " at last" if best.get("changes") else ""
        return f"{tried}; best {facts['metric']} {best['value']:.4f} with {point}{last}"
    if result.kind == "report":
        return _scores_line(facts)
    if "perplexity_before" in facts:
        return _describe_compressed(facts)
    active = facts.get("active_parameters", facts["num_parameters"])
    said = f" ({active:,} active per token)" if active < facts["num_parameters"] else ""
    return f"{facts['num_parameters']:,} parameters{said}, {result.bytes / MEGA:.0f} MB"


def _scores_line(facts: dict[str, Any]) -> str:
    """Perplexity by model where it was measured, else the first metric of each suite."""
    if "perplexity" in facts:
        return "perplexity " + ", ".join(f"{name} {value:.2f}" for name, value in facts["perplexity"].items())
    parts = [
        f"{suite} {metric} {name} {found['value']:.3g}"
        for name, suites in facts["scores"].items()
        for suite, metrics in suites.items()
        for metric, found in list(metrics.items())[:1]
    ]
    return ", ".join(parts)


def _describe_compressed(facts: dict[str, Any]) -> str:
    said = (
        f"{facts['scheme']}, perplexity {facts['perplexity_before']:.2f} -> {facts['perplexity_after']:.2f}, "
        f"{facts['bytes_before'] / MEGA:.0f} -> {facts['bytes_after'] / MEGA:.0f} MB"
    )
    if facts["tokens_per_second_after"] is None:
        return said
    before, after = facts["tokens_per_second_before"], facts["tokens_per_second_after"]
    return f"{said}, {before:.0f} -> {after:.0f} tokens/s"


def print_answer(endpoint: Endpoint, question: str) -> dict[str, float]:
    """Ask over HTTP and show the answer as it comes; returns how fast it was."""
    _console.print(f"\n[bold]{question}[/]")
    answer = stream_answer(endpoint, question)
    for text in answer:
        print(text, end="", flush=True)
    print("\n")
    return answer.figures


def print_curl(endpoint: Endpoint, question: str) -> None:
    """The line with which anyone can ask the endpoint."""
    body = {"model": endpoint.model_id, "messages": [{"role": "user", "content": question}]}
    command = ["curl", f"{endpoint.base_url}/chat/completions", "-H", "Content-Type: application/json"]
    print(shlex.join([*command, "-d", json.dumps(body)]), flush=True)


def print_summary(
    models: dict[str, Artifact], dataset: Artifact | None, report: Artifact | None, answer: dict[str, float]
) -> None:
    """The table at the end of a chain."""
    table = Table(show_header=False, title="Summary", title_justify="left")
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    if dataset:
        _add_data_rows(table, Receipt.model_validate(dataset.facts["receipt"]))
    tuned = models.get("tuned")
    if tuned:
        first, last = tuned.facts["first_loss"], tuned.facts["last_loss"]
        table.add_row("loss", f"{first:.3f} -> {last:.3f} (means over the first and the last tenth)")
        table.add_row("training", f"{tuned.facts['tokens_per_second']:.0f} tokens/s")
    _add_perplexity_row(table, models, report)
    if models:
        sizes = (f"{name} {model.bytes / MEGA:.0f} MB" for name, model in models.items())
        table.add_row("size", ", ".join(sizes))
    if answer:
        table.add_row(
            "answer",
            f"first token after {answer['time_to_first_token_seconds'] * 1000:.0f} ms, "
            f"{answer['tokens_per_second']:.0f} tokens/s",
        )
    _console.print(table)


def _add_data_rows(table: Table, receipt: Receipt) -> None:
    kept = total(receipt.kept)
    splits = ", ".join(f"{name} {count.documents:,}" for name, count in receipt.kept.items())
    table.add_row("documents read", _amount(receipt.read))
    table.add_row("documents kept", f"{_amount(kept)}: {splits}")
    for reason, count in sorted(receipt.dropped.items(), key=lambda entry: -entry[1].documents):
        table.add_row(f"dropped: {reason}", _amount(count))
    if receipt.truncated.tokens:
        table.add_row("truncated", _amount(receipt.truncated))


def _amount(count: Count) -> str:
    """Documents, and tokens where they were counted."""
    return f"{count.documents:,} ({count.tokens:,} tokens)" if count.tokens else f"{count.documents:,}"


def _add_perplexity_row(table: Table, models: dict[str, Artifact], report: Artifact | None) -> None:
    """Held-out perplexity of each model; a compressed one is scored on fewer tokens, so by its ratio."""
    parts = []
    scores = dict(report.facts.get("perplexity", {})) if report else {}
    base = scores.get("base")
    for name, value in scores.items():
        change = f" ({value / base - 1:+.1%})" if base and name != "base" else ""
        parts.append(f"{name} {value:.2f}{change}")
    for name, model in models.items():
        if "perplexity_before" in model.facts:
            before, after = model.facts["perplexity_before"], model.facts["perplexity_after"]
            parts.append(f"{name} {after:.2f} against {before:.2f} uncompressed ({after / before - 1:+.2%})")
    if parts:
        table.add_row("held-out perplexity", ", ".join(parts))
