"""The receipt: what the readers saw against what lies in the published files, read back."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from heliostat.data.cleaning import DROPPED_FOLDER
from heliostat.errors import DataError
from heliostat.records import Count, Receipt
from heliostat.tokenized import SPLITS


def count_packed(folder: Path, split: str) -> Count:
    """Documents and tokens in the packed parts of a split; a document in several pieces counts once."""
    parts = sorted((folder / split).glob("*.parquet"))
    if not parts:
        return Count()
    columns = ["document_ids", "document_lengths"]
    table = pq.read_table([str(part) for part in parts], columns=columns, partitioning=None)
    documents = pc.count_distinct(pc.list_flatten(table["document_ids"])).as_py()
    tokens = pc.sum(pc.list_flatten(table["document_lengths"])).as_py()
    return Count(documents=documents, tokens=tokens)


def count_documents(folder: Path, split: str) -> int:
    """Documents in the cleaned parts of a split."""
    return sum(pq.read_metadata(part).num_rows for part in sorted((folder / split).glob("*.parquet")))


def count_domains(folder: Path) -> dict[str, int]:
    """Documents kept, by domain."""
    domains: Counter[str] = Counter()
    for split in SPLITS:
        for part in sorted((folder / split).glob("*.parquet")):
            domains.update(pq.read_table(part, columns=["domain"], partitioning=None)["domain"].to_pylist())
    return dict(sorted(domains.items()))


def count_dropped(folder: Path) -> dict[str, Count]:
    """Documents and tokens in the files of dropped documents, by reason (tokens 0 where they hold none)."""
    dropped: dict[str, Count] = {}
    for part in sorted((folder / DROPPED_FOLDER).glob("*.parquet")):
        for row in pq.read_table(part, partitioning=None).to_pylist():
            count = Count(documents=1, tokens=row.get("tokens") or 0)
            dropped[row["reason"]] = dropped.get(row["reason"], Count()) + count
    return dict(sorted(dropped.items()))


def count_dropped_steps(folder: Path) -> dict[str, int]:
    """Documents in the files of dropped documents, by the step that dropped them."""
    steps: Counter[str] = Counter()
    for part in sorted((folder / DROPPED_FOLDER).glob("*.parquet")):
        steps.update(pq.read_table(part, columns=["step"], partitioning=None)["step"].to_pylist())
    return dict(sorted(steps.items()))


def make_receipt(folder: Path, read: Count, truncated: tuple[int, int]) -> Receipt:
    """The receipt of a tokenized dataset; `read` and `truncated` come from the tasks.

    Raises:
        ValueError: it does not balance, so documents were lost or doubled: a fault of ours.
    """
    return Receipt(
        read=read,
        kept={split: count_packed(folder, split) for split in SPLITS},
        dropped=count_dropped(folder),
        truncated=Count(documents=truncated[0], tokens=truncated[1]),
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


def _commonest_drop(folder: Path) -> tuple[str, str, int, int]:
    """The commonest reason, the first detail given with it, how often, and all dropped documents."""
    reasons: Counter[str] = Counter()
    details: dict[str, Any] = {}
    for part in sorted((folder / DROPPED_FOLDER).glob("*.parquet")):
        for row in pq.read_table(part, columns=["reason", "detail"], partitioning=None).to_pylist():
            reasons[row["reason"]] += 1
            details.setdefault(row["reason"], row["detail"])
    if not reasons:
        return "", "", 0, 0
    reason, count = reasons.most_common(1)[0]
    return reason, details[reason] or "", count, reasons.total()
