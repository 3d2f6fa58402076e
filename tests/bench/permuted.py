"""More text than is installed: real documents with their words exchanged by a permutation of the vocabulary.

A copy has the lengths, the punctuation, the stop words and the word frequencies of real text, and other
5-grams. Used for corpora above what this machine holds, and never before all real text is used up.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.bench.text_sources import BaseText

_WORD = re.compile(r"\b(?:[a-z]{3,}|[A-Z][a-z]{2,})\b")
_UNCHANGED = 100
_NEIGHBOURHOOD = 48


def permuted_copies(documents: Sequence[BaseText], seed: int) -> Iterator[BaseText]:
    """Every document once, then again under another permutation, without end."""
    frequencies: Counter[str] = Counter()
    for document in documents:
        frequencies.update(word.lower() for word in _WORD.findall(document.text))
    ranked = sorted(frequencies, key=lambda word: (-frequencies[word], word))[_UNCHANGED:]
    chance = random.Random(seed)
    while True:
        exchanged = _permutation(ranked, chance)
        exchanged |= {word.capitalize(): other.capitalize() for word, other in exchanged.items()}

        def exchange(match: re.Match[str], exchanged: dict[str, str] = exchanged) -> str:
            return exchanged.get(match[0], match[0])

        for document in documents:
            yield BaseText(_WORD.sub(exchange, document.text), document.group)


def _permutation(ranked: list[str], chance: random.Random) -> dict[str, str]:
    """Each word's substitute, of the same length where there are some and of about the same frequency."""
    by_length: dict[int, list[str]] = {}
    for word in ranked:
        by_length.setdefault(len(word), []).append(word)
    exchanged = {}
    for words in by_length.values():
        for start in range(0, len(words), _NEIGHBOURHOOD):
            block = words[start : start + _NEIGHBOURHOOD]
            exchanged.update(zip(block, chance.sample(block, len(block)), strict=True))
    return exchanged
