"""What goes into a corpus: real text with little in common, what is planted in it, and the proof of it.

Of all documents 10 % are exact copies, 10 % edited copies at a true Jaccard similarity of 0.5 to 0.95, 2 %
filled-in templates that are different documents, 1 % have one to four words, 0.5 % are empty; 5 % hold
personal data at known places. All real documents share at most `MAXIMUM_FOREIGN` of their word 5-grams with
all that come before them together.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from tests.bench.overlap import foreign_shares, largest_jaccard, shingles_of
from tests.bench.permuted import permuted_copies
from tests.bench.planted import (
    NEAR_FROM,
    NEAR_TO,
    PlantedSpan,
    near_duplicate,
    short_text,
    with_personal_data,
)
from tests.bench.templates import KINDS
from tests.bench.text_sources import BaseText, cut_documents, find_parts

DOCUMENTS_AT_SCALE_ONE = 50_000
BYTES_AT_SCALE_ONE = 150e6
EXACT, NEAR, TEMPLATED, SHORT, EMPTY, PERSONAL = 0.10, 0.10, 0.02, 0.01, 0.005, 0.05
MAXIMUM_FOREIGN = 0.2
_REAL_BYTES = 0.79
"""The part of a corpus's bytes that real text has to fill; copies fill the rest."""
_LARGEST_PROVED = 0.45
_LEAST_SHINGLES = 60
_BATCH_BYTES = 24e6

Say = Callable[[str], None]


@dataclass(eq=False)
class Planned:
    """A document on its way into the corpus."""

    text: str
    kind: str
    group: str = "made up"
    original: "Planned | None" = None
    known: dict[str, Any] = field(default_factory=dict)
    pii: list[PlantedSpan] = field(default_factory=list)
    id: str = ""

    @property
    def relatives(self) -> Any:
        """The same for all documents that are meant to be alike."""
        return self.kind if self.kind in KINDS else id(self.original or self)

    @property
    def row(self) -> dict[str, str]:
        """Itself as its file holds it."""
        return {"id": self.id, "text": self.text, "domain": self.group}

    @property
    def truth(self) -> dict[str, Any]:
        """What is known about it."""
        return {
            "id": self.id,
            "kind": self.kind,
            "family": (self.original or self).id,
            "group": self.group,
            "pii": [asdict(span) for span in self.pii],
            **self.known,
        }


def make_documents(scale: float, seed: int, say: Say) -> tuple[list[Planned], dict[str, Any]]:
    """All documents of a corpus in their order, and what is known about them together.

    Raises:
        RuntimeError: the proof failed, or there is no text to start from.
    """
    chance = random.Random(seed)
    count = round(DOCUMENTS_AT_SCALE_ONE * scale)
    num_base = count - sum(round(count * share) for share in (EXACT, NEAR, TEMPLATED, SHORT, EMPTY))
    size = BYTES_AT_SCALE_ONE * scale * _REAL_BYTES
    base, permuted = _base_documents(num_base, size, seed, say)
    say(f"  {len(base)} documents of real text; planting")
    planned = _plant(base, count, chance)
    proof = _prove(planned)
    say(f"  proved: unrelated documents are alike to {proof['unrelated_jaccard_at_most']:.3f} at most")
    chance.shuffle(planned)
    for number, document in enumerate(planned):
        document.id = f"d{number:07d}"
    near = [document.known["jaccard"] for document in planned if document.kind == "near"]
    return planned, {
        "documents": len(planned),
        "bytes": sum(len(document.text.encode()) for document in planned),
        "kinds": Counter(document.kind for document in planned),
        "groups": Counter(document.group for document in planned if document.kind == "base"),
        "with_permuted_words": permuted,
        "near_jaccard": [min(near), max(near)],
        "personal_data": Counter(span.kind for document in planned for span in document.pii),
        **proof,
    }


class _BaseText:
    """Documents of real text that have little in common with those before them."""

    def __init__(self) -> None:
        self.documents: list[BaseText] = []
        self.bytes = 0
        self._seen = np.empty(0, np.uint64)

    def take(self, batch: list[BaseText]) -> None:
        """Keep what is long enough and new enough."""
        shingles = [shingles_of(document.text) for document in batch]
        shares = foreign_shares(shingles, np.arange(len(batch)), self._seen)
        kept = [
            number
            for number, share in enumerate(shares)
            if share <= MAXIMUM_FOREIGN and len(shingles[number]) >= _LEAST_SHINGLES
        ]
        self.documents += [batch[number] for number in kept]
        self.bytes += sum(len(batch[number].text.encode()) for number in kept)
        new = np.unique(np.concatenate([np.empty(0, np.uint64), *(shingles[number] for number in kept)]))
        self._seen = np.concatenate([self._seen, new])
        self._seen.sort(kind="stable")  # timsort: of two ascending runs it is a merge

    def suffices(self, count: int, size: float) -> bool:
        """Whether there are so many documents and bytes."""
        return self.bytes >= size and len(self.documents) >= count

    def first(self, count: int, size: float) -> list[BaseText]:
        """The fewest documents that suffice."""
        sizes = np.cumsum([len(document.text.encode()) for document in self.documents])
        return self.documents[: max(count, int(np.searchsorted(sizes, size)) + 1)]


def _base_documents(count: int, size: float, seed: int, say: Say) -> tuple[list[BaseText], int]:
    """At least so many documents and bytes of real text, and how many of them are copies with permuted words,
    because what is installed did not suffice.

    Raises:
        RuntimeError: there is no text at all.
    """
    base = _BaseText()
    documents = cut_documents(find_parts(seed), seed)
    natural = 0
    while not base.suffices(count, size):
        batch = list(_batch(documents, min(max(0.2 * size, 2e5), _BATCH_BYTES)))
        if not batch:
            if natural or not base.documents:
                raise RuntimeError("too little text is installed to make a corpus from")
            natural = len(base.documents)
            documents = permuted_copies(base.documents[:natural], seed)
            continue
        base.take(batch)
        say(f"  {base.bytes / 1e6:.1f} of {size / 1e6:.1f} MB{', words permuted' if natural else ''}")
    kept = base.first(count, size)
    return kept, max(0, len(kept) - natural) if natural else 0


def _batch(documents: Iterator[BaseText], size: float) -> Iterator[BaseText]:
    for document in documents:
        yield document
        size -= len(document.text)
        if size <= 0:
            return


def _plant(base: list[BaseText], count: int, chance: random.Random) -> list[Planned]:
    """All documents, originals before their copies."""
    words = _words_of(base)
    planned = [Planned(text=document.text, kind="base", group=document.group) for document in base]
    originals = iter(chance.sample(planned, len(planned)))
    planned += _exact_copies(originals, round(count * EXACT), chance)
    planned += _near_copies(originals, round(count * NEAR), words, chance)
    for document in islice(originals, round(count * PERSONAL)):
        document.text, document.pii = with_personal_data(document.text, chance)
    for number in range(round(count * TEMPLATED)):
        kind = sorted(KINDS)[number % len(KINDS)]
        planned.append(Planned(text=KINDS[kind](chance), kind=kind))
    shorts: set[str] = set()
    while len(shorts) < round(count * SHORT):
        shorts.add(short_text(words, chance).lower())
    planned += [Planned(text=text, kind="short") for text in sorted(shorts)]
    planned += [Planned(text="", kind="empty") for _ in range(round(count * EMPTY))]
    return planned


def _exact_copies(originals: Iterator[Planned], count: int, chance: random.Random) -> Iterator[Planned]:
    """Mostly one copy of an original, now and then up to eight."""
    while count:
        original = next(originals)
        for _ in range(min(count, chance.choice((1, 1, 1, 1, 2, 2, 3, 8)))):
            yield Planned(text=original.text, kind="exact", group=original.group, original=original)
            count -= 1


def _near_copies(
    originals: Iterator[Planned], count: int, words: list[str], chance: random.Random
) -> Iterator[Planned]:
    """One edited copy an original; their similarities are spread evenly."""
    while count:
        original = next(originals)
        found = near_duplicate(original.text, words, chance, chance.uniform(NEAR_FROM, NEAR_TO))
        if found:
            known = {"jaccard": found.jaccard, "edits": found.edits}
            yield Planned(text=found.text, kind="near", group=original.group, original=original, known=known)
            count -= 1


def _words_of(base: list[BaseText]) -> list[str]:
    """Words of the corpus to insert, as often as they stand there."""
    sample = base[:: max(1, len(base) // 500)]
    return [word for document in sample for word in document.text.split() if word.isalpha()]


def _prove(planned: list[Planned]) -> dict[str, Any]:
    """How alike unrelated documents can be at most, and templated ones are.

    Raises:
        RuntimeError: unrelated documents are too alike for the truth to be one.
    """
    shingles = [shingles_of(document.text) for document in planned]
    families: dict[Any, int] = {}
    for document in planned:
        families.setdefault(document.relatives, len(families))
    numbers = np.array([families[document.relatives] for document in planned])
    largest = float(foreign_shares(shingles, numbers).max())
    if largest >= _LARGEST_PROVED:
        raise RuntimeError(f"two unrelated documents may share {largest:.2f} of their 5-grams")
    templated = {
        kind: largest_jaccard([s for s, d in zip(shingles, planned, strict=True) if d.kind == kind])
        for kind in sorted(KINDS)
    }
    return {"unrelated_jaccard_at_most": round(largest, 4), "templated_jaccard_at_most": templated}
