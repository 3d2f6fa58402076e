"""From the runs to the figures that the bars are held against. Medians over the repeats."""

import math
import statistics
from collections.abc import Iterable, Sequence

from tests.bench.peers import DATATROVE
from tests.bench.scoring import DedupScore
from tests.bench.session import OURS, Run, runs_of


def median(runs: Sequence[Run], figure: str) -> float:
    """Of a figure, or of one of the usage; nan without a run that has it."""
    values = [
        getattr(run.usage, figure) if run.usage and hasattr(run.usage, figure) else run.figures.get(figure)
        for run in runs
    ]
    found = [float(value) for value in values if value is not None]
    return statistics.median(found) if found else math.nan


def bar_figures(runs: Sequence[Run]) -> dict[str, float]:
    """A value for each bar whose runs were made."""
    ours, theirs = runs_of(runs, "dedup", OURS), runs_of(runs, "dedup", DATATROVE.name)
    filtered, peer_filtered = runs_of(runs, "filters", OURS), runs_of(runs, "filters", DATATROVE.name)
    signatures = runs_of(runs, "dedup", "heliostat, signatures on one core")
    once, ten = (
        runs_of(runs, "ten times", "heliostat, once"),
        runs_of(runs, "ten times", "heliostat, ten times"),
    )
    rates = median(signatures, "signature_rate"), median(theirs, "signature_rate")
    documents = "documents_per_second"
    figures = {
        "signature_speedup": rates[0] / rates[1],
        "dedup_wall_share": median(ours, "wall_seconds") / median(theirs, "wall_seconds"),
        "filters_speedup": median(filtered, documents) / median(peer_filtered, documents),
        "false_deletions": max((score.num_false_deletions for score in _scores(ours)), default=math.nan),
        "recall_lead": _recall(ours) - _recall(theirs),
        "time_at_ten_times": median(ten, "wall_seconds") / median(once, "wall_seconds"),
        "memory_at_ten_times": median(ten, "peak_bytes") / median(once, "peak_bytes"),
        "packing_waste": median(runs_of(runs, "demo data", OURS), "packing_waste"),
        **_tokenize_figures(runs_of(runs, "tokenize", OURS)),
        **_repeat_figures(runs),
    }
    return {name: value for name, value in figures.items() if not math.isnan(value)}


def agreement(runs: Sequence[Run]) -> float:
    """The share that both keep of what our filters or datatrove's keep; nan if one was not run."""
    ours, theirs = runs_of(runs, "filters", OURS), runs_of(runs, "filters", DATATROVE.name)
    if not ours or not theirs:
        return math.nan
    kept, peer_kept = set(ours[0].figures["kept"]), set(theirs[0].figures["kept"])
    return len(kept & peer_kept) / len(kept | peer_kept) if kept | peer_kept else math.nan


def _scores(runs: Iterable[Run]) -> list[DedupScore]:
    return [run.figures["score"] for run in runs]


def _recall(runs: Iterable[Run]) -> float:
    """The lowest of the repeats; nan without a run."""
    return min((score.near_high.value for score in _scores(runs)), default=math.nan)


def _tokenize_figures(runs: Sequence[Run]) -> dict[str, float]:
    if not runs:
        return {}
    speedups = [run.figures["encode_batch_cpu_seconds"] / run.figures["cpu_seconds"] for run in runs]
    return {
        "tokenize_speedup": statistics.median(speedups),
        "tokenize_same_ids": float(all(run.figures["same_ids"] for run in runs)),
    }


def _repeat_figures(runs: Sequence[Run]) -> dict[str, float]:
    """Over all of our runs of dedup at this scale: kept sets that differ from the first, and bad receipts."""
    contents = [run.figures["contents"] for run in runs if "contents" in run.figures]
    balances = [run.figures["balances"] for run in runs if "balances" in run.figures]
    return {
        "different_kept_sets": float(len(set(contents)) - 1) if len(contents) > 1 else math.nan,
        "unbalanced_receipts": float(balances.count(False)) if balances else math.nan,
    }
