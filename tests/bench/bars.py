"""The bars: what the data stage promises, and whether a benchmark's figures clear its bars."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bar:
    """A promise over one figure. Figures of speed and size mean something from scale 1 on only: below it the
    start of Ray is most of the time."""

    text: str
    compare: Callable[[float, float], bool]
    limit: float
    at_any_scale: bool = False


BARS: dict[str, Bar] = {
    "signature_speedup": Bar("signatures, MB/s per core, x datatrove", operator.ge, 30),
    "dedup_wall_share": Bar("dedup end to end, wall time / datatrove's", operator.le, 1 / 6),
    "filters_speedup": Bar("filters and PII, documents/s, x datatrove", operator.ge, 3),
    "tokenize_speedup": Bar("tokenizing, per core, x encode_batch", operator.ge, 1),
    "tokenize_same_ids": Bar("tokenizing gives the ids of encode_batch", operator.eq, 1, True),
    "false_deletions": Bar("documents deleted by mistake", operator.eq, 0, True),
    "recall_lead": Bar("recall at J >= 0.8 - datatrove's", operator.ge, -0.02, True),
    "time_at_ten_times": Bar("time for ten times the corpus, x", operator.le, 11),
    "memory_at_ten_times": Bar("peak memory for ten times the corpus, x", operator.le, 1.3),
    "different_kept_sets": Bar("other kept sets: runs, workers, order, retry, kill", operator.eq, 0, True),
    "unbalanced_receipts": Bar("receipts that do not balance", operator.eq, 0, True),
    "packing_waste": Bar("packing waste on the demo's data", operator.lt, 0.02, True),
}


@dataclass(frozen=True)
class Verdict:
    """A bar and the figure held against it; `counts` is false where the scale is too small for it."""

    name: str
    bar: Bar
    value: float
    cleared: bool
    counts: bool

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {**vars(self), "bar": self.name, "text": self.bar.text, "limit": self.bar.limit}


def judge(figures: Mapping[str, float], scale: float = 1, bars: Mapping[str, Bar] = BARS) -> list[Verdict]:
    """A verdict on each figure that was measured, in the order of the bars."""
    return [
        Verdict(
            name, bar, figures[name], bar.compare(figures[name], bar.limit), bar.at_any_scale or scale >= 1
        )
        for name, bar in bars.items()
        if name in figures
    ]
