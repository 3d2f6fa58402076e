"""The receipt: what the readers saw against what lies in the published files, read back."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from heliostat.data.cleaning_tasks import DROPPED_FOLDER
from heliostat.errors import DataError
from heliostat.records import Count, Receipt
from heliostat.tokenized import SPLITS


def count_packed(folder: Path, split: str) -> Count:
    """Documents and tokens in the packed parts of a split; a document in several pieces counts once."""
    documents, tokens = 0, 0
    for part in tables_of(folder, split, ["document_ids", "document_lengths"]):
        documents += pc.count_distinct(pc.list_flatten(part["document_ids"])).as_py()
        tokens += pc.sum(pc.list_flatten(part["document_lengths"])).as_py()
    return Count(documents=documents, tokens=tokens)


def count_documents(folder: Path, split: str) -> int:
    """Documents in the cleaned parts of a split."""
    return sum(pq.read_metadata(part).num_rows for part in sorted((folder / split).glob("*.parquet")))


def count_domains(folder: Path) -> dict[str, int]:
    """Documents kept, by domain."""
    domains: Counter[str] = Counter()
    for split in SPLITS:
        for part in tables_of(folder, split, ["domain"]):
            domains.update(_counts(part["domain"]))
    return dict(sorted(domains.items()))


def count_dropped(folder: Path) -> dict[str, Count]:
    """Documents and tokens in the files of dropped documents, by reason (tokens 0 where they hold none)."""
    dropped: dict[str, Count] = {}
    for part in tables_of(folder, DROPPED_FOLDER, ["reason", "tokens"]):
        if "tokens" not in part.column_names:
            part = part.append_column("tokens", pa.array([0] * part.num_rows, type=pa.int64()))
        grouped = part.group_by("reason").aggregate([("tokens", "sum"), ("tokens", "count")])
        for row in grouped.to_pylist():
            count = Count(documents=row["tokens_count"], tokens=row["tokens_sum"])
            dropped[row["reason"]] = dropped.get(row["reason"], Count()) + count
    return dict(sorted(dropped.items()))


def count_dropped_steps(folder: Path) -> dict[str, dict[str, int]]:
    """Documents in the files of dropped documents, by the step that dropped them and its reason."""
    steps: dict[str, Counter[str]] = {}
    for part in tables_of(folder, DROPPED_FOLDER, ["step", "reason"]):
        for row in part.group_by(["step", "reason"]).aggregate([([], "count_all")]).to_pylist():
            steps.setdefault(row["step"], Counter())[row["reason"]] += row["count_all"]
    return {step: dict(sorted(reasons.items())) for step, reasons in sorted(steps.items())}


def check_steps(steps: Sequence[dict[str, Any]], folder: Path) -> None:
    """Compare what each step says it dropped with the files of dropped documents.

    Raises:
        ValueError: they differ, so documents were lost or doubled: a fault of ours.
    """
    said = {row["step"]: row["dropped"] for row in steps if row["dropped"]}
    there = count_dropped_steps(folder)
    if said != there:
        raise ValueError(f"the steps' account does not match the files: {said} said, {there} found")


def make_receipt(folder: Path, read: Count, truncated: Count, repeated: Count) -> Receipt:
    """The receipt of a tokenized dataset; the arguments come from the tasks.

    Raises:
        ValueError: it does not balance, so documents were lost or doubled: a fault of ours.
    """
    return Receipt(
        read=read,
        kept={split: count_packed(folder, split) for split in SPLITS},
        dropped=count_dropped(folder),
        truncated=truncated,
        repeated=repeated,
    )


def require_documents(kept: dict[str, int], folder: Path) -> None:
    """See that there is something to train on.

    Raises:
        DataError: nothing was kept, or the train split is empty; names the commonest reason.
    """
    if kept["train"]:
        return
    if any(kept.values()):
        raise DataError(
            f"the train split is empty: all {sum(kept.values())} kept documents fell to the other splits; "
            "give more documents or a larger 'split: {train: ...}'"
        )
    reason, detail, count, total = _commonest_drop(folder)
    if not total:
        raise DataError("the sources hold no documents; see 'sources:'")
    raise DataError(
        f"no document was kept: all {total} were dropped, {count} of them as '{reason}'"
        f"{f' ({detail})' if detail else ''}; change the data or the step that drops them"
    )


def tables_of(folder: Path, place: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Columns of the Parquet parts in a folder, a part at a time; those that a part has not are left out."""
    for part in sorted((folder / place).glob("*.parquet")):
        with pq.ParquetFile(part) as file:
            yield file.read(columns=[name for name in columns if name in file.schema_arrow.names])


def _commonest_drop(folder: Path) -> tuple[str, str, int, int]:
    """The commonest reason, the first detail given with it, how often, and all dropped documents."""
    reasons: Counter[str] = Counter()
    details: dict[str, str] = {}
    for part in tables_of(folder, DROPPED_FOLDER, ["reason", "detail"]):
        reasons.update(_counts(part["reason"]))
        for reason, detail in zip(part["reason"].to_pylist(), part["detail"].to_pylist(), strict=True):
            details.setdefault(reason, detail or "")
    if not reasons:
        return "", "", 0, 0
    reason, count = reasons.most_common(1)[0]
    return reason, details[reason], count, reasons.total()


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()}
