"""Holds what a tool kept against the truth: duplicates found, documents lost, personal data left."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import xxhash
from tests.bench.templates import KINDS

BINS = ((0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.0))
HIGH = 0.8


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    count: int
    of: int

    @property
    def value(self) -> float:
        """The share; nan of nothing."""
        return self.count / self.of if self.of else float("nan")

    def __str__(self) -> str:
        return f"{self.count}/{self.of}"


@dataclass(frozen=True)
class DedupScore:
    """What dedup did, right and wrong.

    An exact copy is found when it, or the copy it was made from, is gone; a near-duplicate when it or its
    original is. Of a family somebody has to stay: `lost` counts families of copies that are gone altogether
    among the false deletions. Empty documents may go if they are accounted for.
    """

    kept: int
    exact: Share
    near: dict[str, Share]
    near_high: Share
    """Of the near-duplicates with a true similarity of 0.8 and more."""
    false_deletions: dict[str, Share]

    @property
    def num_false_deletions(self) -> int:
        """All of them."""
        return sum(share.count for share in self.false_deletions.values())

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)


def score_dedup(
    truth: Sequence[Mapping[str, Any]], kept: Iterable[str], accounted: Iterable[str] = ()
) -> DedupScore:
    """The score of a tool that kept the documents with these ids.

    Args:
        truth: the corpus's.
        kept: ids.
        accounted: ids of empty documents which it dropped and says so.

    Raises:
        ValueError: it kept a document that is not in the corpus, or one twice.
    """
    ids = list(kept)
    there = set(ids)
    known = {row["id"] for row in truth}
    if len(ids) != len(there) or not there <= known:
        raise ValueError(
            f"kept {len(ids) - len(there)} documents twice and {len(there - known)} unknown ones"
        )
    present = there | set(accounted)
    return DedupScore(
        kept=len(there),
        exact=_exact(truth, there),
        near={f"{low:.1f}-{high:.1f}": _near(truth, there, low, high) for low, high in BINS},
        near_high=_near(truth, there, HIGH, 1.0),
        false_deletions=_false_deletions(truth, there, present),
    )


def _exact(truth: Sequence[Mapping[str, Any]], kept: set[str]) -> Share:
    """Copies too many that are gone; a family that is gone altogether has one of them to answer for."""
    copied = {row["family"] for row in truth if row["kind"] == "exact"}
    staying = Counter(row["family"] for row in truth if row["family"] in copied and row["id"] in kept)
    planted = sum(row["kind"] == "exact" for row in truth)
    return Share(planted - sum(count - 1 for count in staying.values()), planted)


def _near(truth: Sequence[Mapping[str, Any]], kept: set[str], low: float, high: float) -> Share:
    pairs = [row for row in truth if row["kind"] == "near" and low <= row["jaccard"] < high]
    found = sum((row["id"] in kept) != (row["family"] in kept) for row in pairs)
    return Share(found, len(pairs))


def _false_deletions(
    truth: Sequence[Mapping[str, Any]], kept: set[str], present: set[str]
) -> dict[str, Share]:
    sizes = Counter(row["family"] for row in truth)
    staying = Counter(row["family"] for row in truth if row["id"] in kept)
    families = [family for family, size in sizes.items() if size > 1]

    def lost(rows: Iterable[Mapping[str, Any]], those: set[str]) -> Share:
        ids = [row["id"] for row in rows]
        return Share(sum(name not in those for name in ids), len(ids))

    single = [row for row in truth if row["kind"] == "base" and sizes[row["family"]] == 1]
    return {
        **{kind: lost((row for row in truth if row["kind"] == kind), kept) for kind in sorted(KINDS)},
        "under five words": lost((row for row in truth if row["kind"] == "short"), kept),
        "empty, unaccounted": lost((row for row in truth if row["kind"] == "empty"), present),
        "unrelated": lost(single, kept),
        "whole families": Share(sum(not staying[family] for family in families), len(families)),
    }


def contents_hash(texts: Iterable[str]) -> str:
    """Equal for the same texts in any order, each as often."""
    digests = sorted(xxhash.xxh3_128_digest(text.encode("utf-8", "surrogatepass")) for text in texts)
    return xxhash.xxh3_128_hexdigest(b"".join(digests))


def personal_data_found(truth: Iterable[Mapping[str, Any]], texts: Mapping[str, str]) -> dict[str, Share]:
    """By kind, of the planted personal data in the documents that are still there how much is not."""
    planted: Counter[str] = Counter()
    gone: Counter[str] = Counter()
    for row in truth:
        text = texts.get(row["id"])
        for span in row["pii"] if text is not None else ():
            planted[span["kind"]] += 1
            gone[span["kind"]] += span["value"] not in (text or "")
    return {kind: Share(gone[kind], count) for kind, count in sorted(planted.items())}
