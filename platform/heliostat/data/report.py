"""What a report on the data says; how it looks is `report_page.py`."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from heliostat.data.accounting import tables_of
from heliostat.data.before_after import character_counts
from heliostat.data.documents import Document
from heliostat.data.encoding import STEP
from heliostat.data.shards import documents_of
from heliostat.data.tokenizing import Tokenized
from heliostat.data.tokenizing_tasks import NUM_SAMPLES
from heliostat.tokenized import SPLITS

NUM_BINS = 24


@dataclass(frozen=True)
class Histogram:
    """How many documents have a length; `edges` has one number more than `counts`, the last bin is open."""

    unit: str
    edges: tuple[int, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """Everything a report shows. Samples are runs of text with whether the model learns them.

    `steps` are the rows of the steps' account; `quality` those of `quality_before_and_after`; `repeats` pairs
    of texts of which the second went.
    """

    title: str
    figures: tuple[tuple[str, str], ...]
    funnel: tuple[tuple[str, int], ...]
    steps: tuple[dict[str, Any], ...]
    dropped: dict[str, int]
    histogram: Histogram
    domains: dict[str, int]
    split_columns: tuple[str, ...]
    splits: dict[str, tuple[str, ...]]
    pii: dict[str, int]
    languages: dict[str, int]
    scores: dict[str, dict[str, float]]
    quality: tuple[dict[str, Any], ...]
    repeats: tuple[dict[str, Any], ...]
    samples: tuple[tuple[tuple[str, bool], ...], ...]


def cleaning_report(name: str, facts: dict[str, Any], folder: Path) -> Report:
    """The report on the cleaned documents in `folder`."""
    lengths: Counter[int] = Counter()
    for split in SPLITS:
        for table in tables_of(folder, split, ["text", "messages", "rejected"]):
            lengths.update(character_counts(table).tolist())
    samples = [
        _runs(document) for document, _ in zip(_documents(folder, "train"), range(NUM_SAMPLES), strict=False)
    ]
    kept = sum(facts["documents"].values())
    return Report(
        title=f"{name}: cleaned documents",
        figures=(
            ("documents read", _number(facts["documents_read"])),
            ("documents kept", _number(kept)),
            ("kept", _share(kept, facts["documents_read"])),
        ),
        funnel=_funnel(facts["steps"]),
        steps=tuple(facts["steps"]),
        dropped=facts["dropped"],
        histogram=_histogram(lengths, "characters"),
        domains=facts["domains"],
        split_columns=("documents",),
        splits={split: (_number(count),) for split, count in facts["documents"].items()},
        **_found(facts),
        samples=tuple(samples),
    )


def tokenized_report(name: str, facts: dict[str, Any], done: Tokenized) -> Report:
    """The report on a tokenized dataset."""
    receipt = facts["receipt"]
    kept = {"documents": 0, "tokens": 0}
    for count in receipt["kept"].values():
        kept = {unit: kept[unit] + count[unit] for unit in kept}
    columns = ("documents", "tokens", "labels", "rows", "packing_efficiency")
    return Report(
        title=f"{name}: tokenized dataset",
        figures=(
            ("documents read", _number(receipt["read"]["documents"])),
            ("documents kept", _number(kept["documents"])),
            ("tokens read", _number(receipt["read"]["tokens"])),
            ("tokens kept", _number(kept["tokens"])),
            ("tokens truncated", _number(receipt["truncated"]["tokens"])),
            ("max sequence length", _number(facts["max_sequence_length"])),
        ),
        funnel=_funnel(facts["steps"]),
        steps=tuple(facts["steps"]),
        dropped={reason: count["documents"] for reason, count in receipt["dropped"].items()},
        histogram=_histogram(Counter(done.lengths), "tokens"),
        domains=facts["domains"],
        split_columns=tuple(column.replace("_", " ") for column in columns),
        splits={
            split: tuple(_number(values[column]) for column in columns)
            for split, values in facts["splits"].items()
        },
        **_found(facts),
        samples=tuple(
            tuple((text, learned) for text, learned in sample) for sample in done.samples[:NUM_SAMPLES]
        ),
    )


def _funnel(steps: list[dict[str, Any]]) -> tuple[tuple[str, int], ...]:
    """Documents left behind each step; tokenizing is shown only where it dropped some."""
    shown = [row for row in steps if row["step"] != STEP or row["dropped"]]
    bars = [(f"after {row['step'].replace('_', ' ')}", row["kept"]) for row in shown]
    return (("rows in the sources", steps[0]["read"]), *bars)


def _found(facts: dict[str, Any]) -> dict[str, Any]:
    """What the steps found, from an artifact's facts."""
    repeats = [example for told in facts["decisions"].values() for example in told.get("examples", ())]
    return {**facts["found"], "quality": tuple(facts["quality"]), "repeats": tuple(repeats)}


def _histogram(lengths: Counter[int], unit: str) -> Histogram:
    """Equal bins up to the 99th percentile; what is longer is in the last one."""
    total, seen, highest = lengths.total(), 0, 1
    for length in sorted(lengths):
        seen += lengths[length]
        highest = length
        if seen >= 0.99 * total:
            break
    width = max(1, -(-highest // NUM_BINS))
    counts = [0] * NUM_BINS
    for length, times in lengths.items():
        counts[min(length // width, NUM_BINS - 1)] += times
    return Histogram(unit, tuple(at * width for at in range(NUM_BINS + 1)), tuple(counts))


def _documents(folder: Path, split: str) -> Iterable[Document]:
    for part in sorted((folder / split).glob("*.parquet")):
        for batch in pq.ParquetFile(part).iter_batches(batch_size=NUM_SAMPLES):
            yield from documents_of(batch)


def _runs(document: Document) -> tuple[tuple[str, bool], ...]:
    """The document's text as it is before any template: answers are what the model learns."""
    if not document.messages:
        return ((document.text, True),)
    return tuple(
        (f"{message['role']}: {message['content']}\n", message["role"] == "assistant")
        for message in document.messages
    )


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.1%}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
