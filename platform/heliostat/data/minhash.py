"""MinHash signatures of documents, and the band keys by which likely near-duplicates meet.

The share of equal places in two signatures estimates the Jaccard similarity of the documents' shingles, and a
band of r places is equal with probability similarity ** r (Broder, "On the resemblance and containment of
documents", 1997; Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3).

Instead of one permutation a place, a shingle falls into two of the places, which keep the least value; places
left empty are filled in further rounds with new hashes (after Dahlgaard, Knudsen, Thorup, "Fast Similarity
Sketching", FOCS 2017). Places are still equal with just the Jaccard similarity, and the estimate varies no
more than with a permutation a place, for a document of any length. For 450 words three hashes a shingle are
enough, instead of 112.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliostat.data.shingles import I64, U64, Shingles, mix, nominating_words, random_odd, shingles

U32 = NDArray[np.uint32]

NO_KEY = np.uint64(0)
"""The band key of a document that must meet none."""

_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_ROUNDS = 11
"""So many rounds in which a shingle falls anywhere; then each empty place looks at all shingles."""
_ROUNDS_WITH_ALL = 2
"""Behind these only short texts and such that repeat themselves are left: repeated shingles are let go."""
_GROUP_SHINGLES = 1 << 16
_HALF, _LOW = np.uint64(32), np.uint64(0xFFFFFFFF)
_SALTS = random_odd(_ROUNDS - 1, seed=112)
_AGAIN = np.uint64(0xD6E8FEB86659FD93)  # odd; the upper bits of its product are those of another hash
_TEXT_BITS, _TEXT_SHIFT = np.uint64(16), np.uint64(48)  # a group has no more than 2 ** 16 texts with shingles


@dataclass(frozen=True)
class Sketches:
    """What near-dedup keeps of n documents."""

    signatures: U32
    """(n, places); all ones for a document with fewer words than a shingle has."""
    num_words: I64
    """(n,)"""


def sketch(texts: Sequence[str], num_places: int = 112, shingle_words: int = 5) -> Sketches:
    """Signatures of the texts' nominating shingles, the same however the texts are batched."""
    words = nominating_words(texts)
    return Sketches(signatures(shingles(words, shingle_words), num_places), words.counts)


def signatures(of: Shingles, num_places: int = 112) -> U32:
    """(n, places) uint32: for each text and place the least hash of the shingles that fell there."""
    result = np.full((len(of.counts), num_places), _LOW, np.uint32)
    ends = np.cumsum(of.counts)
    first = 0
    while first < len(of.counts):
        begin = int(ends[first] - of.counts[first])
        stop = max(int(np.searchsorted(ends, begin + _GROUP_SHINGLES, side="right")), first + 1)
        group = Shingles(of.hashes[begin : ends[stop - 1]], of.counts[first:stop])
        _fill(result[first:stop], group)
        first = stop
    return result


def _fill(result: U32, group: Shingles) -> None:
    """Fill the signatures of a group of texts, a view of the whole."""
    texts = np.flatnonzero(group.counts)
    hashes, counts = group.hashes, group.counts[texts]
    first = np.full((len(texts), result.shape[1]), _LOW, np.uint32)
    _let_fall_twice(first, hashes, counts)
    result[texts] = first
    unfilled = (first == _LOW).any(axis=1)
    texts, hashes, counts = texts[unfilled], hashes[np.repeat(unfilled, counts)], counts[unfilled]
    # A value has its round in front of it, so the least is one of the first round that got there.
    places = first[unfilled].astype(np.uint64)
    places[places == _LOW] = _EMPTY
    rows = np.arange(len(texts))
    for number, salt in enumerate(_SALTS, start=1):
        if number == _ROUNDS_WITH_ALL:
            hashes, counts = _different(hashes, counts)
        _let_fall(places, mix(hashes * salt), np.repeat(rows, counts), np.uint64(number))
        unfilled = (places[rows] == _EMPTY).any(axis=1)
        hashes = hashes[np.repeat(unfilled, counts)]
        rows, counts = rows[unfilled], counts[unfilled]
    _fill_rest(places, hashes, rows, counts)
    result[texts] = places.astype(np.uint32)


def _let_fall_twice(places: U32, hashes: U64, counts: I64) -> None:
    """Each hash falls into two places of its text's row; the least value stays there."""
    flat, width = places.reshape(-1), np.uint64(places.shape[1])
    row = np.repeat(np.arange(0, places.size, places.shape[1]), counts)
    for start in range(0, len(hashes), _GROUP_SHINGLES):
        part = hashes[start : start + _GROUP_SHINGLES]
        again = part * _AGAIN
        for fallen, value in ((part, part), (again, again >> np.uint64(24))):
            place = ((fallen >> _HALF) * width >> _HALF).view(np.int64)
            place += row[start : start + _GROUP_SHINGLES]
            np.minimum.at(flat, place, value.astype(np.uint32))


def _let_fall(places: U64, hashes: U64, rows: I64, number: np.uint64) -> None:
    """Each hash falls into one place of its text's row; the least value stays there."""
    flat, width = places.reshape(-1), places.shape[1]
    for start in range(0, len(hashes), _GROUP_SHINGLES):
        part = hashes[start : start + _GROUP_SHINGLES]
        place = ((part >> _HALF) * np.uint64(width) >> _HALF).view(np.int64)
        place += rows[start : start + _GROUP_SHINGLES] * width
        np.minimum.at(flat, place, part & _LOW | number << _HALF)


def _different(hashes: U64, counts: I64) -> tuple[U64, I64]:
    """The different hashes of each text, 48 bits of each, and how many they are."""
    text = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
    hashes = np.sort(text << _TEXT_SHIFT | hashes >> _TEXT_BITS)
    hashes = hashes[np.diff(hashes, prepend=~hashes[:1]) != 0]
    counts = np.bincount((hashes >> _TEXT_SHIFT).view(np.int64), minlength=len(counts))
    return hashes & ((np.uint64(1) << _TEXT_SHIFT) - np.uint64(1)), counts


def _fill_rest(places: U64, hashes: U64, rows: I64, counts: I64) -> None:
    """What is still empty belongs to texts of few different shingles: each place takes the least of all."""
    text, place = np.nonzero(places[rows] == _EMPTY)
    if not len(text):
        return
    lengths = counts[text]
    begins = np.cumsum(lengths) - lengths
    shift = (np.cumsum(counts) - counts)[text] - begins
    values = hashes[np.arange(lengths.sum()) + np.repeat(shift, lengths)]
    values *= np.repeat(random_odd(places.shape[1], seed=_ROUNDS)[place], lengths)
    places[rows[text], place] = np.minimum.reduceat(mix(values) & _LOW, begins)


def band_keys(signatures: U32, num_bands: int) -> U64:
    """(n, bands) uint64: equal keys in a band mean equal signatures there, and likely near-duplicates.

    A document without shingles has `NO_KEY` in every band; no other has it in any.
    """
    rows = signatures.shape[1] // num_bands
    bands = signatures[:, : rows * num_bands].reshape(len(signatures), num_bands, rows)
    keys = np.broadcast_to(random_odd(num_bands, seed=14), bands.shape[:2]).copy()
    for row in range(rows):
        keys = mix((keys ^ bands[:, :, row]) * np.uint64(0x9E3779B97F4A7C15))
    keys[keys == NO_KEY] = 1
    keys[(signatures == _LOW).all(axis=1)] = NO_KEY
    return keys
