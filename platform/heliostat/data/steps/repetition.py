"""Gopher's repetition rules (Rae et al. 2021, table A1): text that says the same thing over and over.

The fractions, exactly:

- A line or paragraph repeats when an equal one stands before it. Blank ones, and the white space around them,
  do not count.
- The top n-gram is the most frequent sequence of n words; of equally frequent ones that with the most
  characters, of those the first. One that occurs once is none. Its fraction is the share of the text's word
  characters that lie in one of its occurrences.
- A duplicate n-gram is an occurrence that has an equal one before it. Their fraction is the share of the word
  characters that lie in one of them, each character counted once.

A longer n-gram can only repeat where its beginning does. So the n-grams of n+1 words are looked for among the
repeated ones of n words, which soon are few, and the search ends where no rule can be broken any more.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config
from heliostat.data.documents import Document
from heliostat.data.steps.interface import DocumentStep, Refusal
from heliostat.text.words import WordSpans, lines, spaced_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]

_BLANK_LINE = re.compile(r"\n\s*\n")


class GopherRepetitionStep(Config):
    """Drop documents that repeat themselves, by Gopher's limits; a limit of null switches its rule off.

    All limits are fractions; a value at its limit stays. Words are those of `text.words`, so in Chinese an
    n-gram is n characters long.
    """

    kind: Literal["gopher_repetition"] = "gopher_repetition"
    max_duplicate_line_fraction: float | None = Field(default=0.3, ge=0, le=1)
    max_duplicate_paragraph_fraction: float | None = Field(default=0.3, ge=0, le=1)
    max_duplicate_line_character_fraction: float | None = Field(default=0.2, ge=0, le=1)
    max_duplicate_paragraph_character_fraction: float | None = Field(default=0.2, ge=0, le=1)
    max_top_ngram_fractions: tuple[tuple[int, float], ...] = ((2, 0.20), (3, 0.18), (4, 0.16))
    """Pairs: how many words, and the limit."""
    max_duplicate_ngram_fractions: tuple[tuple[int, float], ...] = (
        (5, 0.15),
        (6, 0.14),
        (7, 0.13),
        (8, 0.12),
        (9, 0.11),
        (10, 0.10),
    )
    """Pairs: how many words, and the limit."""

    @model_validator(mode="after")
    def _fractions_of_sequences(self) -> Self:
        for name in ("max_top_ngram_fractions", "max_duplicate_ngram_fractions"):
            for size, limit in getattr(self, name):
                if not 2 <= size <= 100:
                    raise ValueError(f"{name}: {size} words are no n-gram; give sizes from 2 to 100")
                if not 0 <= limit <= 1:
                    raise ValueError(f"{name}: the limit of {size} is a fraction from 0 to 1, got {limit:g}")
        return self


def make_gopher_repetition(config: GopherRepetitionStep) -> DocumentStep:
    """The step of a config."""

    def judge(document: Document) -> Document | Refusal:
        text = document.whole_text
        return _judge_lines(text, config) or _judge_words(text, config) or document

    return judge


def repeated_shares(pieces: list[str]) -> tuple[float, float]:
    """Which share of the pieces repeats an earlier one, and which share of their characters lies in those."""
    different = set(pieces)
    if len(different) == len(pieces):
        return 0.0, 0.0
    characters = len("".join(pieces))
    repeated_characters = characters - len("".join(different))
    return (len(pieces) - len(different)) / len(pieces), repeated_characters / characters


def _judge_lines(text: str, config: GopherRepetitionStep) -> Refusal | None:
    of_lines, of_line_characters = repeated_shares(lines(text))
    if not of_lines:  # then no paragraph repeats, either
        return None
    paragraphs = [paragraph for paragraph in map(str.strip, _BLANK_LINE.split(text)) if paragraph]
    of_paragraphs, of_paragraph_characters = repeated_shares(paragraphs)
    judged = (
        ("dup_para_frac", of_paragraphs, config.max_duplicate_paragraph_fraction),
        ("dup_para_char_frac", of_paragraph_characters, config.max_duplicate_paragraph_character_fraction),
        ("dup_line_frac", of_lines, config.max_duplicate_line_fraction),
        ("dup_line_char_frac", of_line_characters, config.max_duplicate_line_character_fraction),
    )
    for reason, share, limit in judged:
        if limit is not None and share > limit:
            return Refusal(reason, share)
    return None


def _judge_words(text: str, config: GopherRepetitionStep) -> Refusal | None:
    tops, duplicates = dict(config.max_top_ngram_fractions), dict(config.max_duplicate_ngram_fractions)
    spans = WordSpans(spaced_words(text))
    if not len(spans) or not (tops or duplicates):
        return None
    document = _NumberedWords(spans)
    for grams in document.repeated_ngrams(max((*tops, *duplicates))):
        tops = document.in_reach(grams, tops)
        if grams.size in tops:
            share = document.share_of_top(grams)
            if share > tops.pop(grams.size):
                return Refusal(f"top_{grams.size}_gram", share)
        if grams.size in duplicates:
            share = document.share_of_duplicates(grams)
            if share > duplicates.pop(grams.size):
                return Refusal(f"duplicated_{grams.size}_n_grams", share)
        if not tops and document.may_end(grams, min(duplicates.values(), default=1.0)):
            return None
    return None


class _Repeated:
    """The n-grams of one size that occur more than once: where they start, equal ones together.

    `begins` says where in `starts` each different n-gram begins, and `counts` how often it occurs.
    """

    def __init__(self, size: int, starts: "Integers", begins: "Integers") -> None:
        self.size, self.starts, self.begins = size, starts, begins
        self.counts = begins.copy()
        self.counts[:-1] = begins[1:]
        self.counts[-1] = len(starts)
        self.counts -= begins

    def firsts(self) -> "Integers":
        """Where each different n-gram starts for the first time."""
        import numpy as np

        firsts: Integers = np.minimum.reduceat(self.starts, self.begins)
        return firsts

    def duplicates(self) -> "Integers":
        """The starts of n-grams that stand somewhere before."""
        starts: Integers = self.starts[self.starts != self.firsts().repeat(self.counts)]
        return starts


class _NumberedWords:
    """A document as numbers, one for each different word.

    What numpy has as a method is called as one: on some hundred words the function takes three times as long.
    """

    def __init__(self, spans: WordSpans) -> None:
        import numpy as np

        numbers = spans.numbers()
        self.vocabulary = int(numbers.max()) + 1
        # The number behind the last word is nobody's, so an n-gram over the end never repeats.
        self.numbers = np.zeros(len(numbers) + 1, np.int64)
        self.numbers[:-1] = numbers
        self.lengths = spans.lengths()
        self.longest = int(self.lengths.max())
        self.characters = int(self.lengths.sum())

    def repeated_ngrams(self, largest: int) -> Iterator[_Repeated]:
        """The repeated n-grams of 2 to `largest` words; ends before a size of which there are none."""
        import numpy as np

        starts = np.arange(len(self.lengths))
        keys = self.numbers[:-1] * self.vocabulary
        keys += self.numbers[1:]
        for size in range(2, largest + 1):
            order = keys.argsort()
            keys = keys[order]
            equal = keys[1:] == keys[:-1]
            repeated = np.zeros(len(keys), bool)
            repeated[1:] = equal
            repeated[:-1] |= equal
            is_new = np.ones(len(keys), bool)
            np.logical_not(equal, out=is_new[1:])
            starts, is_new = starts[order[repeated]], is_new[repeated]
            if not len(starts):
                return
            yield _Repeated(size, starts, is_new.nonzero()[0])
            keys = is_new.cumsum()
            keys *= self.vocabulary
            keys += self.numbers[starts + size]

    def in_reach(self, grams: _Repeated, limits: dict[int, float]) -> dict[int, float]:
        """The limits, by size, that the top n-gram of that size could be above; sizes from this one on."""
        most = int(grams.counts.max()) * self.longest if limits else 0
        return {size: limit for size, limit in limits.items() if most * size > limit * self.characters}

    def share_of_top(self, grams: _Repeated) -> float:
        """The share of characters in occurrences of the most frequent n-gram."""
        import numpy as np

        most = int(grams.counts.max())
        frequent = grams.counts == most
        begins, firsts = grams.begins[frequent], grams.firsts()[frequent]
        characters = sum(self.lengths[firsts + place] for place in range(grams.size))
        begin = int(begins[np.lexsort((firsts, -characters))[0]])
        return self._share(grams.starts[begin : begin + most], grams.size)

    def share_of_duplicates(self, grams: _Repeated) -> float:
        """The share of characters in n-grams that stand somewhere before; the larger n, the smaller it is."""
        return self._share(grams.duplicates(), grams.size)

    def may_end(self, grams: _Repeated, limit: float) -> bool:
        """Whether the share of duplicates of a larger n cannot be above the limit."""
        duplicates = len(grams.starts) - len(grams.begins)
        # Each duplicate covers a word or more of its own: a cheap hint that looking closer is of no use.
        return duplicates <= limit * len(self.lengths) and self.share_of_duplicates(grams) <= limit

    def _share(self, starts: "Integers", size: int) -> float:
        """The share of characters that lie in the `size` words behind any of the starts."""
        import numpy as np

        change = np.zeros(len(self.numbers), np.int64)
        change[starts] += 1
        change[starts + size] -= 1
        covered = change.cumsum()[:-1] > 0
        return int(self.lengths[covered].sum()) / self.characters
