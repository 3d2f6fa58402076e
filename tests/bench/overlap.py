"""Word 5-grams, their exact Jaccard similarity, and a proof that documents have little in common.

A word is a run of letters, digits and underscores, in lower case; digits are kept. Shingles are compared by
hashes, so a figure is exact but for collisions of 64 bits.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

SHINGLE_WORDS = 5
_WORD = re.compile(r"\w+")
_SPACE = ord(" ")
_WORD_BYTES = bytes(
    code if code >= 128 else ord(chr(code).lower()) if chr(code).isalnum() or chr(code) == "_" else _SPACE
    for code in range(256)
)
"""For `bytes.translate`: ASCII in lower case, what belongs to no word a space."""
_BASE = 0x9E3779B97F4A7C15
_CHANCE = np.random.default_rng(5)
_BYTES = _CHANCE.integers(1, 2**63, 256, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_FACTORS = _CHANCE.integers(1, 2**63, SHINGLE_WORDS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_ZERO = np.zeros(1, np.uint64)
_PARTITION_BITS = 3


def shingles_of(text: str) -> np.ndarray:
    """The distinct shingles of a text, ascending, uint64; none for fewer than five words."""
    words = _word_hashes(text)
    count = len(words) - SHINGLE_WORDS + 1
    if count < 1:
        return np.empty(0, np.uint64)
    sums = words[:count] * _FACTORS[0]
    for place in range(1, SHINGLE_WORDS):
        sums += words[place : place + count] * _FACTORS[place]
    hashes = np.sort(_mixed(sums))
    return hashes[np.diff(hashes, prepend=~hashes[:1]) != 0]


def _word_hashes(text: str) -> np.ndarray:
    """A hash for each word: the sum over its bytes of a random number each, times a power for the place."""
    plain = text if text.isascii() else " ".join(words_of(text))
    codes = np.frombuffer(plain.encode().translate(_WORD_BYTES) + b" ", np.uint8)
    powers, inverses = _powers(1 << len(codes).bit_length())
    inside = codes != _SPACE
    edges = np.flatnonzero(np.diff(inside, prepend=False))
    starts, ends = edges[::2], edges[1::2]
    sums = np.concatenate([_ZERO, np.cumsum(_BYTES[codes] * powers[: len(codes)])])
    return _mixed((sums[ends] - sums[starts]) * inverses[starts])


@lru_cache
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first powers of an odd number modulo 2**64, and of its inverse."""
    base = np.full(count, _BASE, np.uint64)
    inverse = np.full(count, pow(_BASE, -1, 2**64), np.uint64)
    base[0] = inverse[0] = 1
    return np.multiply.accumulate(base), np.multiply.accumulate(inverse)


def words_of(text: str) -> list[str]:
    """The words in lower case."""
    return _WORD.findall(text.lower())


def jaccard(first: np.ndarray, second: np.ndarray) -> float:
    """Shared over all distinct shingles; 0 if there are none."""
    both = np.sort(np.concatenate([first, second]))
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    union = len(both) - shared
    return shared / union if union else 0.0


def text_jaccard(first: str, second: str) -> float:
    """Of two texts."""
    return jaccard(shingles_of(first), shingles_of(second))


def foreign_shares(
    shingles: Sequence[np.ndarray], families: np.ndarray, seen: np.ndarray | None = None
) -> np.ndarray:
    """For each document the share of its shingles that also stand in `seen`, which is ascending, or in a
    family with a smaller number.

    A proof over all pairs by one inverted index: every shingle that documents of two families share counts
    for the one of the later family, so their Jaccard similarity is at most that document's share.
    """
    sizes = np.array([len(of_text) for of_text in shingles], np.int64)
    foreign = np.zeros(len(shingles), np.int64)
    owners = np.repeat(np.arange(len(shingles)), sizes)
    everything = np.concatenate([*shingles, np.empty(0, np.uint64)])
    partitions = (everything >> np.uint64(64 - _PARTITION_BITS)).astype(np.int8)
    for partition in range(2**_PARTITION_BITS):  # an eighth at a time: ten times the corpus fits into memory
        chosen = np.flatnonzero(partitions == partition)
        if not len(chosen):
            continue
        values, holders = everything[chosen], owners[chosen]
        order = np.lexsort((families[holders], values))
        values, holders = values[order], holders[order]
        new = np.concatenate([[True], values[1:] != values[:-1]])
        first = np.maximum.accumulate(np.where(new, np.arange(len(values)), 0))
        shared = families[holders] != families[holders[first]]
        if seen is not None and len(seen):
            places = np.minimum(np.searchsorted(seen, values), len(seen) - 1)
            shared |= seen[places] == values
        foreign += np.bincount(holders[shared], minlength=len(shingles))
    return foreign / np.maximum(sizes, 1)


def largest_jaccard(shingles: Sequence[np.ndarray]) -> float:
    """The largest similarity of any two documents, by an exact count of all pairs' shared shingles."""
    from scipy.sparse import csr_matrix

    sizes = np.array([len(of_text) for of_text in shingles])
    _, columns, counts = np.unique(np.concatenate(shingles), return_inverse=True, return_counts=True)
    rows = np.repeat(np.arange(len(shingles)), sizes)
    useful = counts[columns] > 1
    places = (rows[useful], columns[useful])
    matrix = csr_matrix((np.ones(useful.sum(), np.float32), places), (len(shingles), len(counts)))
    largest = 0.0
    for start in range(0, len(shingles), 256):
        shared = (matrix[start : start + 256] @ matrix.T).toarray()
        similarity = shared / (sizes[start : start + 256, None] + sizes[None, :] - shared)
        similarity[np.arange(len(similarity)), np.arange(start, start + len(similarity))] = 0
        largest = max(largest, float(similarity.max()))
    return largest


def _mixed(values: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64: a bijection, so nothing collides that did not before."""
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
