"""What training promises, the figures held against it, and the tables that show them."""

import math
import operator
import statistics
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from tests.bench.bars import Bar, Verdict
from tests.bench.figures import median
from tests.bench.printing import bar_table
from tests.bench.session import OURS, Run, runs_of

BARE = "bare DeepSpeed loop"
CHECKPOINT = "checkpoint"
KINDS = ("full", "LoRA")
RATE = "tokens_per_second"

MATERIALS = {
    "passages": ("one question with its passage a row", 1.15),
    "short": ("short instructions", 1.6),
    "long": ("long text, all of it learned", 1.15),
}
"""What is read, in words, and how many times LLaMA-Factory's tokens a second are asked there."""

TRAINING_BARS: dict[str, Bar] = {
    **{
        f"overhead {kind}": Bar(f"{kind}: tokens/s, x a bare DeepSpeed loop", operator.ge, 0.97)
        for kind in KINDS
    },
    "overhead loss": Bar("step-1 loss, distance from the bare loop's", operator.le, 1e-4),
    "checkpoint": Bar("a checkpoint stops LoRA training, s", operator.lt, 1),
    "same ids": Bar("LLaMA-Factory has the same ids, labels and order", operator.eq, 1),
    "peer loss": Bar("step-1 loss, distance from LLaMA-Factory's", operator.le, 1e-3),
    **{
        f"{material} {kind}": Bar(f"{kind}, {what}: tokens/s, x LLaMA-Factory", operator.ge, least)
        for material, (what, least) in MATERIALS.items()
        for kind in KINDS
    },
    "long at worst": Bar("long text, our slowest run, x its fastest", operator.ge, 1),
}


def training_figures(runs: Sequence[Run]) -> dict[str, float]:
    """A value for each bar whose runs were made; LLaMA-Factory counts with its best setting."""
    figures = {
        **{f"overhead {kind}": _speedup(runs, f"overhead {kind}") for kind in KINDS},
        "overhead loss": _distance(runs, "overhead"),
        "checkpoint": median(runs_of(runs, CHECKPOINT, OURS), "stop_seconds"),
        "same ids": _same_ids(runs),
        "peer loss": max((_distance(runs, part) for part in MATERIALS), key=_nan_first),
        **{f"{part} {kind}": _speedup(runs, f"{part} {kind}") for part in MATERIALS for kind in KINDS},
        "long at worst": min((_at_worst(runs, f"long {kind}") for kind in KINDS), key=_nan_last),
    }
    return {name: value for name, value in figures.items() if not math.isnan(value)}


def print_training(runs: Sequence[Run], verdicts: Sequence[Verdict], console: Console) -> None:
    """A line for each tool of each part, medians over the repeats; and the bars."""
    table = Table(title="Training SmolLM2-135M (medians)")
    for column in ("part", "tool"):
        table.add_column(column)
    for column in ("runs", "tokens/s", "loss of step 1", "of the last", "stops s"):
        table.add_column(column, justify="right")
    for part, tool in dict.fromkeys((run.part, run.tool) for run in runs if not run.failure):
        those = runs_of(runs, part, tool)
        figures = [
            f"{median(those, RATE):.1f}",
            f"{median(those, 'first_loss'):.6f}",
            f"{median(those, 'last_loss'):.6f}",
            f"{median(those, 'stop_seconds'):.2f}" if part == CHECKPOINT else "",
        ]
        table.add_row(part, tool, str(len(those)), *figures)
    console.print(table)
    console.print(bar_table(verdicts))


def _speedup(runs: Sequence[Run], part: str) -> float:
    """Our median over the best median of the other tools in the part; nan without both."""
    others = [median(runs_of(runs, part, tool), RATE) for tool in _others(runs, part)]
    return median(runs_of(runs, part, OURS), RATE) / max(others) if others else math.nan


def _at_worst(runs: Sequence[Run], part: str) -> float:
    ours = [run.figures[RATE] for run in runs_of(runs, part, OURS)]
    theirs = [run.figures[RATE] for tool in _others(runs, part) for run in runs_of(runs, part, tool)]
    return min(ours) / max(theirs) if ours and theirs else math.nan


def _distance(runs: Sequence[Run], first_word: str) -> float:
    """The greatest distance between two first losses of the same part; nan where only one tool ran."""
    spans = []
    for part in dict.fromkeys(run.part for run in runs if run.part.split()[0] == first_word):
        tools = [OURS, *_others(runs, part)]
        losses = [statistics.median(found) for tool in tools if (found := _first_losses(runs, part, tool))]
        spans += [max(losses) - min(losses)] if len(losses) > 1 else []
    return max(spans, default=math.nan)


def _first_losses(runs: Sequence[Run], part: str, tool: str) -> list[float]:
    return [run.figures["first_loss"] for run in runs_of(runs, part, tool)]


def _same_ids(runs: Iterable[Run]) -> float:
    answers = [run.figures["same_ids"] for run in runs if "same_ids" in run.figures]
    return float(all(answers)) if answers else math.nan


def _others(runs: Sequence[Run], part: str) -> list[str]:
    """The tools beside ours that have a run in a part that came to an end."""
    return list(
        dict.fromkeys(run.tool for run in runs if run.part == part and run.tool != OURS and not run.failure)
    )


def _nan_first(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _nan_last(value: float) -> float:
    return math.inf if math.isnan(value) else value
