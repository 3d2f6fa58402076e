"""Near dedup: bands nominate pairs, texts decide, and one total order says which of a pair stays.

`near_keys` for each batch of documents; then, over all of them, `candidate_pairs` (or `pairs_in_buckets` for
each partition of the keys and `merge`, which comes to the same); `prefilter` by signatures; `compare_texts`;
`decide`. A document is only ever deleted against one that stays and is not shorter, so nothing goes for being
similar to something that goes. This knows neither where arrays and texts are nor how the work is spread.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heliostat.data.dedup_config import NearDedupStep
from heliostat.data.documents import Document
from heliostat.data.exact_dedup import repeated
from heliostat.data.minhash import NO_KEY, U32, band_keys, sketch
from heliostat.data.shingles import I64, U64, Words, mix, shingles, verifying_words

I16 = NDArray[np.int16]
Mask = NDArray[np.bool_]

COMPARED_FIRST = COMPARED_BEFORE = 8
"""In a bucket a document meets the first 8, which most likely stay, and the 8 just before it in the order,
whose lengths are nearest: all pairs in buckets of up to 17."""
NUMBERS_SHARE = 0.15
"""Two texts are one form filled in differently when each has numbers that the other lacks, or both have the
same in another order, and these are this share of the words that differ. Of 2,300 edited docstrings this cost
3 in 1,000; of 9,000 API entries, invoices and weather reports with up to 400 words in common all stayed, when
similarity alone took half."""

SIMILARITY = np.dtype(
    [
        ("jaccard", np.float64),
        ("containment", np.float64),
        ("same_numbers", np.bool_),
        ("same_answers", np.bool_),
    ]
)
"""How alike two texts a and b are: the shingles they share, of all shingles of both, and of those of b;
whether they are more than one form filled in differently; and whether, of conversations, the answers are
alike as well (`answers.py`; texts alone do not tell)."""


@dataclass(frozen=True)
class GiantBucket:
    """A bucket with more documents than `max_bucket`: few of its pairs were nominated."""

    band: int
    key: int
    size: int
    example: int
    """The first of its documents, named as in the pairs."""


@dataclass(frozen=True)
class Candidates:
    """Nominated pairs, each once: the document of lower rank first, the pairs rising."""

    pairs: I64
    """(m, 2)"""
    bands: I16
    """(m,) the first band in which a pair met."""
    giants: tuple[GiantBucket, ...]


def near_keys(documents: Sequence[Document], config: NearDedupStep) -> dict[str, NDArray[np.generic]]:
    """For n documents `bands`, (n, num_bands) uint64, and `signatures`, (n, places) uint32."""
    texts = [document.whole_text for document in documents]
    sketches = sketch(texts, config.num_places, config.shingle_words)
    keys = band_keys(sketches.signatures, config.num_bands)
    keys[sketches.num_words < config.min_words] = NO_KEY
    return {"bands": keys, "signatures": sketches.signatures}


def candidate_pairs(keys: U64, ranks: I64, max_bucket: int) -> Candidates:
    """Pairs of positions, from band keys (n, bands) and ranks (n,), which are all different.

    One band is looked at at a time: beside the keys that takes some 40 bytes a document and 16 a pair.
    """
    found: U64 = np.empty(0, np.uint64)
    giants: list[GiantBucket] = []
    for band in range(keys.shape[1]):
        earlier, later, of_band = _pairs_of_band(keys[:, band], ranks, band, max_bucket)
        codes = earlier.astype(np.uint64) << _FIRST | later.astype(np.uint64) << _SECOND | np.uint64(band)
        found = np.sort(np.concatenate([found, codes]))
        found = found[_begins(found >> _SECOND)]
        giants += of_band
    pairs = np.stack([found >> _FIRST, found >> _SECOND & _POSITION], axis=1).astype(np.int64)
    return Candidates(pairs, (found & _BAND).astype(np.int16), tuple(giants))


# A pair and its band as one number that sorts by the pair first: two positions of 28 bits and a band of 8.
_FIRST, _SECOND = np.uint64(36), np.uint64(8)
_POSITION, _BAND = np.uint64((1 << 28) - 1), np.uint64((1 << 8) - 1)


def pairs_in_buckets(bands: I16, keys: U64, ranks: I64, index: I64, max_bucket: int) -> Candidates:
    """Pairs of indices, from rows that each say which key a document has in a band, (rows,) each.

    All rows that share band and key must be among them; then all partitions, merged, come to the pairs of
    `candidate_pairs`. A document has one row for each of its bands, with the same index and rank.
    """
    parts = []
    for band in np.unique(bands).tolist():
        rows = np.flatnonzero(bands == band)
        earlier, later, giants = _pairs_of_band(keys[rows], ranks[rows], band, max_bucket)
        pairs = index[rows[np.stack([earlier, later], axis=1)]]
        named = (
            GiantBucket(band, giant.key, giant.size, int(index[rows[giant.example]])) for giant in giants
        )
        parts.append(Candidates(pairs, np.full(len(pairs), band, np.int16), tuple(named)))
    return merge(parts)


def merge(parts: Iterable[Candidates]) -> Candidates:
    """What several partitions nominated, each pair once."""
    parts = [Candidates(np.empty((0, 2), np.int64), np.empty(0, np.int16), ()), *parts]
    pairs = np.concatenate([part.pairs for part in parts])
    bands = np.concatenate([part.bands for part in parts])
    by_pair = np.lexsort((bands, pairs[:, 1], pairs[:, 0]))
    pairs, bands = pairs[by_pair], bands[by_pair]
    begins = _begins(pairs[:, 0]) | _begins(pairs[:, 1])
    giants = sorted(
        (giant for part in parts for giant in part.giants), key=lambda each: (each.band, each.key)
    )
    return Candidates(pairs[begins], bands[begins], tuple(giants))


def _begins(values: NDArray[np.generic]) -> Mask:
    """Where values differ from the one before."""
    begins = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    return begins


def _pairs_of_band(keys: U64, ranks: I64, band: int, max_bucket: int) -> tuple[I64, I64, list[GiantBucket]]:
    """Positions of the earlier and the later document of each pair that a band nominates."""
    rows = repeated(keys)
    rows = rows[keys[rows] != NO_KEY]
    rows = rows[np.lexsort((ranks[rows], keys[rows]))]
    starts = np.flatnonzero(_begins(keys[rows]))
    sizes = np.diff(starts, append=len(rows))
    start = np.repeat(starts, sizes)
    place = np.arange(len(rows)) - start
    is_giant = sizes > max_bucket
    compared = np.repeat(np.where(is_giant, 1, COMPARED_FIRST), sizes)
    earlier, later = [], []
    for step in range(COMPARED_FIRST):
        meets = np.flatnonzero((place > step) & (step < compared))
        earlier.append(start[meets] + step)
        later.append(meets)
    for step in range(1, COMPARED_BEFORE + 1):
        meets = np.flatnonzero((place >= step + compared) & (step <= compared))
        earlier.append(meets - step)
        later.append(meets)
    giants = [
        GiantBucket(band, int(keys[rows[at]]), int(size), int(rows[at]))
        for at, size in zip(starts[is_giant], sizes[is_giant], strict=True)
    ]
    return rows[np.concatenate(earlier)], rows[np.concatenate(later)], giants


def prefilter(pairs: I64, signatures: Callable[[I64], U32], min_similarity: float) -> Mask:
    """(m,) whether a pair's texts are worth reading, by the similarity that its signatures show.

    `signatures` gives those of some documents, (k, places), for rising names from the pairs. A pair is left
    out when it is three standard errors too low: of pairs at the limit that is one in a thousand.
    """
    worth = np.zeros(len(pairs), np.bool_)
    for start in range(0, len(pairs), _CHUNK_PAIRS):
        part = pairs[start : start + _CHUNK_PAIRS]
        documents, place = np.unique(part, return_inverse=True)
        found = signatures(documents)
        first, second = place.reshape(part.shape).T
        error = (min_similarity * (1 - min_similarity) / found.shape[1]) ** 0.5
        equal = (found[first] == found[second]).mean(axis=1)
        worth[start : start + _CHUNK_PAIRS] = equal >= min_similarity - 3 * error
    return worth


_CHUNK_PAIRS = 1 << 15
_CHUNK_HASHES = 1 << 21
_HASH_BITS = np.uint64(48)  # leaves 16 for a pair's number in its chunk


def compare_texts(texts: Sequence[str], pairs: I64, config: NearDedupStep) -> NDArray[np.void]:
    """(m,) of SIMILARITY: for each pair (a, b) of positions in `texts`, how alike these are.

    By what differs, not by how often it is said. A text without shingles is like nothing.
    """
    words = verifying_words(texts)
    runs = shingles(words, config.shingle_words)
    shared, sizes = _shared(_different(runs.hashes, runs.counts), pairs)
    # A changed word changes as many shingles as a shingle has words; a changed number is one such word.
    changed_words = (sizes - shared[:, None]).sum(axis=1) / config.shingle_words
    compared = np.empty(len(pairs), SIMILARITY)
    compared["jaccard"] = shared / np.maximum(sizes.sum(axis=1) - shared, 1)
    compared["containment"] = shared / np.maximum(sizes[:, 1], 1)
    compared["same_numbers"] = ~_refilled(_numbers_of(words), pairs, changed_words)
    compared["same_answers"] = True
    return compared


def _numbers_of(words: Words) -> list[U64]:
    """The hashes of each text's numbers, in the order they stand in."""
    before = np.concatenate([[0], np.cumsum(words.are_numbers)])
    ends = np.cumsum(words.counts)
    counts = before[ends] - before[ends - words.counts]
    return np.split(words.hashes[words.are_numbers], np.cumsum(counts)[:-1])


def _refilled(numbers: list[U64], pairs: I64, changed_words: NDArray[np.float64]) -> Mask:
    """(m,) whether each text of a pair has numbers that the other lacks or has less often, or both have the
    same in another order, and those are a share of what differs."""
    shared, there = _shared([_occurrences(of_text) for of_text in numbers], pairs)
    changed = there - shared[:, None]
    refilled = (changed > 0).all(axis=1) & (changed.sum(axis=1) >= NUMBERS_SHARE * changed_words)
    for number in np.flatnonzero((changed == 0).all(axis=1)).tolist():
        first, second = (numbers[text] for text in pairs[number].tolist())
        misplaced = 2 * np.count_nonzero(first != second)
        refilled[number] = misplaced > 0 and misplaced >= NUMBERS_SHARE * changed_words[number]
    found: Mask = refilled
    return found


def _occurrences(hashes: U64) -> U64:
    """A hash for the first of equal ones, another for the second, and so on; rising, 48 bits of each."""
    together = np.sort(hashes)
    starts = np.flatnonzero(_begins(together))
    nth = np.arange(len(together)) - np.repeat(starts, np.diff(starts, append=len(together)))
    found: U64 = np.sort(mix(together + nth.astype(np.uint64)) >> np.uint64(16))
    return found


def _different(hashes: U64, counts: I64) -> list[U64]:
    """The different hashes of each text, 48 bits of each: too many for two texts' to meet by chance."""
    ends = np.cumsum(counts)
    parts = (
        np.sort(hashes[end - count : end] >> np.uint64(16)) for end, count in zip(ends, counts, strict=True)
    )
    return [part[_begins(part)] for part in parts]


def _shared(sets: list[U64], pairs: I64) -> tuple[I64, I64]:
    """(m,) how many hashes the sets of a pair have in common, and (m, 2) how many each has."""
    sizes = np.fromiter(map(len, sets), np.int64, len(sets))[pairs]
    ends = np.cumsum(sizes.sum(axis=1))
    shared = np.zeros(len(pairs), np.int64)
    first = 0
    while first < len(pairs):
        begin = ends[first] - sizes[first].sum()
        stop = max(int(np.searchsorted(ends, begin + _CHUNK_HASHES, side="right")), first + 1)
        stop = min(stop, first + _CHUNK_PAIRS)
        number = np.repeat(
            np.arange(stop - first, dtype=np.uint64) << _HASH_BITS, sizes[first:stop].sum(axis=1)
        )
        hashes = np.concatenate([sets[text] for text in pairs[first:stop].reshape(-1)])
        together = np.sort(number | hashes)
        twice = together[1:][together[1:] == together[:-1]] >> _HASH_BITS
        shared[first:stop] = np.bincount(twice.astype(np.int64), minlength=stop - first)
        first = stop
    return shared, sizes


def alike(compared: NDArray[np.void], config: NearDedupStep) -> Mask:
    """(m,) which pairs are near-duplicates, whether or not one of them may go: they belong in one split."""
    result: Mask = (compared["jaccard"] >= config.min_similarity) & (
        compared["containment"] >= config.min_containment
    )
    return result


def decide(pairs: I64, compared: NDArray[np.void], ranks: I64, lengths: I64, config: NearDedupStep) -> I64:
    """Which documents go: the numbers of the pairs (a, b) that say why, one for each b that goes, b rising.

    In the order of their ranks, each goes when one before it is alike, stays, and is not shorter; of several,
    the one most like it is named.

    Args:
        pairs: (m, 2) names of documents, that of lower rank first.
        compared: (m,) of SIMILARITY.
        ranks: (m, 2) of the pairs' documents.
        lengths: (m, 2) of the pairs' documents, in characters.
        config: the limits.
    """
    agrees = alike(compared, config) & (lengths[:, 0] >= lengths[:, 1]) & compared["same_answers"]
    if config.same_numbers:
        agrees &= compared["same_numbers"]
    which = np.flatnonzero(agrees)
    which = which[np.lexsort((ranks[which, 0], -compared["jaccard"][which], ranks[which, 1]))]
    gone: set[int] = set()
    reasons: list[int] = []
    for pair, (earlier, later) in zip(which.tolist(), pairs[which].tolist(), strict=True):
        if earlier not in gone and later not in gone:
            gone.add(later)
            reasons.append(pair)
    chosen = np.array(reasons, np.int64)
    return chosen[np.argsort(pairs[chosen, 1])]


def clusters(pairs: I64, count: int) -> I64:
    """(count,) for each position the lowest one that pairs connect it with, over any number of steps."""
    positions, place = np.unique(pairs, return_inverse=True)
    first, second = place.reshape(pairs.shape).T
    roots = np.arange(len(positions))
    while len(first):
        lowest = np.minimum(roots[first], roots[second])
        for end in (first, second):
            np.minimum.at(roots, roots[end], lowest)
        while (roots[roots] != roots).any():
            roots = roots[roots]
        apart = roots[first] != roots[second]
        first, second = first[apart], second[apart]
    result = np.arange(count)
    result[positions] = positions[roots]
    return result
