"""Decontamination: training documents that say what an evaluation set asks.

Evaluation texts become hashes of their runs of 13 words; a document that has one of them goes. Words are
those of `shingles.verifying_words`: without case and punctuation, with their numbers, and in Chinese and the
like a character each. This knows neither files nor evaluation sets.

What is published differs in the length of a run and in the share of an evaluation text's runs: 13 words and
any run (GPT-3, appendix C), 12 and any (datatrove), 8 and 70 % (PaLM, section 8), 8 tokens and a share that
fits the set (Llama 3, section 5.1.4). GPT-3's is the default; `ngram_words: 8` with `min_overlap: 0.7` is
PaLM's, asked of each document alone.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heliostat.data.dedup_config import DecontaminateStep
from heliostat.data.documents import Document
from heliostat.data.shingles import I64, U64, Words, random_odd, verifying_words
from heliostat.data.steps.interface import DocumentStep, Refusal

REASON = "contaminated"

MAX_TEXTS_PER_NGRAM = 16
"""Of a run in more evaluation texts (an instruction that all share) these many are known to have it."""

CONTAMINATION = np.dtype([("text", np.int64), ("matches", np.int64), ("position", np.int64)])
"""What a document has of an evaluation text: its number, or -1; how many of its runs; the word, from 0, at
which the first of them begins."""

_MATCH = np.dtype([("document", np.int64), ("text", np.int64), ("hash", np.uint64), ("position", np.int64)])


@dataclass(frozen=True)
class EvaluationNgrams:
    """The runs of words of t evaluation texts."""

    hashes: U64
    """(h,) rising; a run is there once for each text that has it."""
    sizes: NDArray[np.int8]
    """(h,) words in it."""
    texts: I64
    """(h,) whose it is."""
    labels: NDArray[np.str_]
    """(t,) what the texts are called."""

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> "EvaluationNgrams":
        """From `arrays()`."""
        return cls(arrays["hashes"], arrays["sizes"], arrays["texts"], arrays["labels"])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For numpy's files."""
        return {"hashes": self.hashes, "sizes": self.sizes, "texts": self.texts, "labels": self.labels}

    @property
    def num_ngrams(self) -> I64:
        """(t,) the different runs of each text; 0 for one too short to be looked for."""
        return np.bincount(self.texts, minlength=len(self.labels))


def fit(texts: Sequence[str], labels: Sequence[str], config: DecontaminateStep) -> EvaluationNgrams:
    """The runs of evaluation texts, which are called `labels`.

    A text with fewer than `ngram_words` words is looked for as a whole, from `min_ngram_words` on; shorter
    ones (an answer, a name) are said everywhere and not looked for.
    """
    words = verifying_words(texts)
    hashes, sizes, owners = [np.empty(0, np.uint64)], [np.empty(0, np.int8)], [np.empty(0, np.int64)]
    for size, runs in _runs(words.hashes, range(config.min_ngram_words, config.ngram_words + 1)):
        owner, left = _owners(words, np.arange(len(runs)))
        whole = words.counts[owner] == size
        there = np.flatnonzero((left >= size) & (whole | (size == config.ngram_words)))
        hashes.append(runs[there])
        sizes.append(np.full(len(there), size, np.int8))
        owners.append(owner[there])
    return _without_repeats(
        EvaluationNgrams(
            np.concatenate(hashes), np.concatenate(sizes), np.concatenate(owners), np.array(labels, np.str_)
        )
    )


def _without_repeats(ngrams: EvaluationNgrams) -> EvaluationNgrams:
    """In rising order, each run once for a text, and for no more than `MAX_TEXTS_PER_NGRAM` texts."""
    order = np.lexsort((ngrams.texts, ngrams.hashes))
    order = order[_begins(ngrams.hashes[order]) | _begins(ngrams.texts[order])]
    start = np.flatnonzero(_begins(ngrams.hashes[order]))
    place = np.arange(len(order)) - np.repeat(start, np.diff(start, append=len(order)))
    kept = order[place < MAX_TEXTS_PER_NGRAM]
    return EvaluationNgrams(ngrams.hashes[kept], ngrams.sizes[kept], ngrams.texts[kept], ngrams.labels)


def _runs(words: U64, sizes: Collection[int]) -> Iterator[tuple[int, U64]]:
    """For each size, rising, the hash of the run that begins at each word, whether or not a text ends in it.

    The array is written over for the next size.
    """
    longest = max(sizes, default=0)
    hashes = np.zeros(len(words), np.uint64)
    for place, weight in enumerate(random_odd(longest, seed=13)[: len(words)]):
        hashes = hashes[: len(words) - place]
        hashes += words[place:] * weight
        if place + 1 in sizes:
            yield place + 1, hashes


def _owners(words: Words, positions: I64) -> tuple[I64, I64]:
    """For some words, the text of each, and how many words there are from it to the end of its text."""
    ends = np.cumsum(words.counts)
    owner = np.searchsorted(ends, positions, side="right")
    return owner, ends[owner] - positions


def _begins(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    begins = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    return begins


@dataclass(frozen=True)
class _Known:
    """The runs of one size."""

    hashes: U64
    texts: I64
    occurs: NDArray[np.bool_]
    """By the first bits of a hash: False for most that are not among `hashes`."""
    shift: np.uint64

    @classmethod
    def of(cls, hashes: U64, texts: I64) -> "_Known":
        bits = min(max(len(hashes).bit_length() + 4, 16), 26)
        occurs = np.zeros(1 << bits, np.bool_)
        occurs[(hashes >> np.uint64(64 - bits)).view(np.int64)] = True
        return cls(hashes, texts, occurs, np.uint64(64 - bits))

    def find(self, runs: U64) -> tuple[I64, I64]:
        """Which of some runs are known, and where each begins in `hashes`."""
        maybe = np.flatnonzero(self.occurs[(runs >> self.shift).view(np.int64)])
        low = np.searchsorted(self.hashes, runs[maybe])
        known = self.hashes[np.minimum(low, len(self.hashes) - 1)] == runs[maybe]
        return maybe[known], low[known]


class Decontaminator:
    """Looks for the runs of evaluation texts in documents. Made once for many batches: it builds tables."""

    def __init__(self, ngrams: EvaluationNgrams, config: DecontaminateStep) -> None:
        there = ngrams.num_ngrams
        self._needed = np.maximum(np.minimum(config.min_matches, there), config.min_overlap * there - 1e-9)
        self._known: dict[int, _Known] = {}
        for size in np.unique(ngrams.sizes).tolist():
            of_size = np.flatnonzero(ngrams.sizes == size)
            self._known[size] = _Known.of(ngrams.hashes[of_size], ngrams.texts[of_size])

    def contaminated(self, texts: Sequence[str]) -> NDArray[np.void]:
        """(n,) of CONTAMINATION: for each text, the evaluation text that it has most runs of, if enough."""
        result = np.zeros(len(texts), CONTAMINATION)
        result["text"] = -1
        matches = self._find(texts)
        if not len(matches):
            return result
        matches = matches[np.lexsort([matches[name] for name in ("position", "hash", "text", "document")])]
        begins = _begins(matches["document"]) | _begins(matches["text"])
        starts = np.flatnonzero(begins)
        counts = np.add.reduceat(begins | _begins(matches["hash"]), starts, dtype=np.int64)
        first = np.minimum.reduceat(matches["position"], starts)
        document, text = matches["document"][starts], matches["text"][starts]
        enough = np.flatnonzero(counts >= self._needed[text])
        by_most = enough[np.lexsort((text[enough], -counts[enough], document[enough]))]
        best = by_most[_begins(document[by_most])]
        result["text"][document[best]] = text[best]
        result["matches"][document[best]] = counts[best]
        result["position"][document[best]] = first[best]
        return result

    def _find(self, texts: Sequence[str]) -> NDArray[np.void]:
        """All runs of evaluation texts, (matches,) of _MATCH."""
        words = verifying_words(texts)
        parts = []
        for size, runs in _runs(words.hashes, self._known.keys()):
            known = self._known[size]
            at, low = known.find(runs)
            if not len(at):
                continue
            owner, left = _owners(words, at)
            count = np.searchsorted(known.hashes, runs[at], side="right") - low
            count[left < size] = 0
            part = np.empty(int(count.sum()), _MATCH)
            place = np.arange(len(part)) - np.repeat(np.cumsum(count) - count, count)
            part["document"] = np.repeat(owner, count)
            part["text"] = known.texts[np.repeat(low, count) + place]
            part["hash"] = np.repeat(runs[at], count)
            part["position"] = np.repeat(words.counts[owner] - left, count)
            parts.append(part)
        return np.concatenate(parts) if parts else np.empty(0, _MATCH)


def make_decontaminate(config: DecontaminateStep, fitted: Mapping[str, NDArray[Any]]) -> DocumentStep:
    """The step over single documents; `fitted` is what `fit` found, as arrays."""
    ngrams = EvaluationNgrams.of(fitted)
    there = ngrams.num_ngrams
    decontaminator = Decontaminator(ngrams, config)

    def step(document: Document) -> Document | Refusal:
        text, matches, position = decontaminator.contaminated([document.whole_text])[0].tolist()
        if text < 0:
            return document
        detail = f"{matches} of {there[text]} runs of {ngrams.labels[text]}, from word {position + 1} on"
        return Refusal(REASON, float(matches), detail)

    return step
