"""Signatures, band keys and the pairs that these nominate: exact, or as often as the theory says."""

import random
import time
from itertools import combinations, pairwise

import numpy as np
import pytest

from heliostat.data.dedup_config import NearDedupStep
from heliostat.data.minhash import NO_KEY, band_keys, signatures, sketch
from heliostat.data.near_dedup import (
    Candidates,
    GiantBucket,
    candidate_pairs,
    merge,
    pairs_in_buckets,
    prefilter,
)
from heliostat.data.shingles import Shingles

WORDS = [f"{first}{second}" for first in "bcdfghjklmnp" for second in ("a", "e", "i", "o", "u", "al", "en")]


def random_texts(number: int, seed: int = 0) -> list[str]:
    random_ = random.Random(seed)
    texts = [" ".join(random_.choices(WORDS, k=random_.choice((0, 4, 5, 9, 40, 400)))) for _ in range(number)]
    return texts + ["".join(random_.choices("中文字符集合的一是不了人我在有他这", k=60)) for _ in range(5)]


def random_sets(size: int, shared: int, repeats: int) -> tuple[Shingles, Shingles]:
    """Pairs of sets of hashes, `shared` of `size` in common."""
    hashes = np.random.default_rng(size).integers(0, 2**64, (repeats, 2 * size - shared), dtype=np.uint64)
    second = np.concatenate([hashes[:, :shared], hashes[:, size:]], axis=1)
    counts = np.full(repeats, size)
    return Shingles(hashes[:, :size].ravel(), counts), Shingles(second.ravel(), counts)


@pytest.mark.parametrize("size", [30, 60, 450])
@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8, 0.9])
def test_pairs_meet_as_often_as_the_theory_says(size, similarity):
    repeats = 1500
    shared = round(2 * size * similarity / (1 + similarity))
    similarity = shared / (2 * size - shared)
    first, second = (signatures(each) for each in random_sets(size, shared, repeats))
    meets = (band_keys(first, 14) == band_keys(second, 14)).any(axis=1).mean()
    expected = 1 - (1 - similarity**8) ** 14
    # Fewer values than places makes places depend on each other: that only steepens the curve, by up to 0.02.
    assert abs(meets - expected) < 4 * (expected * (1 - expected) / repeats) ** 0.5 + 0.02
    estimates = (first == second).mean(axis=1)
    error = (similarity * (1 - similarity) / 112) ** 0.5
    assert abs(estimates.mean() - similarity) < 4 * error / repeats**0.5
    assert estimates.std() < 1.05 * error


@pytest.mark.parametrize("size", [1, 2, 8])
def test_the_estimate_for_a_few_shingles_varies_no_more_than_for_many(size):
    repeats, shared = 2000, size // 2
    similarity = shared / (2 * size - shared)
    first, second = (signatures(each) for each in random_sets(size, shared, repeats))
    estimates = (first == second).mean(axis=1)
    error = (similarity * (1 - similarity) / 112) ** 0.5
    assert abs(estimates.mean() - similarity) <= 4 * error / repeats**0.5
    assert estimates.std() <= 1.05 * error


def test_the_share_of_pairs_found_is_the_published_one():
    shares = [round(NearDedupStep().share_found(similarity), 3) for similarity in (0.5, 0.7, 0.75, 0.8, 0.85)]
    assert shares == [0.053, 0.565, 0.772, 0.924, 0.988]


def test_signatures_do_not_depend_on_the_batch(monkeypatch):
    texts = random_texts(300)
    whole = sketch(texts)
    for group in (1, 100, 5000):
        monkeypatch.setattr("heliostat.data.minhash._GROUP_SHINGLES", group)
        assert np.array_equal(sketch(texts).signatures, whole.signatures)
    alone = [sketch([text]) for text in texts]
    assert np.array_equal(np.concatenate([each.signatures for each in alone]), whole.signatures)
    assert np.array_equal(np.concatenate([each.num_words for each in alone]), whole.num_words)
    assert whole.signatures.shape == (305, 112)


def test_signatures_are_those_of_sets():
    once = "one two three four five six seven"
    texts = [once, once.upper() + "!", "a a a a a", "a " * 900, f"{once} {once} {once}", f"{once} {once}"]
    found = sketch(texts).signatures
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[2], found[3])
    assert np.array_equal(found[4], found[5])
    assert not np.array_equal(found[0], found[4])


def test_every_place_of_a_short_document_is_filled():
    found = sketch(["one two three four five", "一二三四五六", "a " * 5000])
    assert (found.signatures != 0xFFFFFFFF).all()
    assert found.num_words.tolist() == [5, 6, 5000]


def test_documents_without_shingles_meet_nobody():
    found = sketch(["", "one two three four", "…", "一二三四", "one two three four five"])
    assert (found.signatures[:4] == 0xFFFFFFFF).all()
    keys = band_keys(found.signatures, 14)
    assert (keys[:4] == NO_KEY).all()
    assert (keys[4] != NO_KEY).all()


def test_a_band_key_is_of_its_band_and_of_all_its_rows():
    row = np.arange(112, dtype=np.uint32)
    changed = row.copy()
    changed[17] += 1
    same, other = band_keys(np.stack([row, changed]), 14)
    assert np.flatnonzero(same != other).tolist() == [2]
    assert len(np.unique(band_keys(np.zeros((1, 112), np.uint32), 14))) == 14
    assert band_keys(np.stack([row]), 10).shape == (1, 10)


@pytest.mark.parametrize("num_places", [1, 16, 300])
def test_signatures_of_other_lengths(num_places):
    found = sketch(
        ["one two three four five six", "one two three four five six", ""], num_places, 3
    ).signatures
    assert found.shape == (3, num_places)
    assert np.array_equal(found[0], found[1])


def test_no_texts():
    found = sketch([])
    assert found.signatures.shape == (0, 112)
    assert band_keys(found.signatures, 14).shape == (0, 14)


def keys_of(*bands: str) -> np.ndarray:
    """A band's keys as letters, one a document; "." is no key."""
    columns = [[0 if letter == "." else ord(letter) for letter in band] for band in bands]
    return np.array(columns, np.uint64).T


def ranks_of(*ranks: int) -> np.ndarray:
    return np.array(ranks, np.int64)


def test_documents_with_a_key_in_common_are_nominated_once_the_earlier_first():
    found = candidate_pairs(keys_of("aab..", ".cc.d", "xxx.."), ranks_of(2, 0, 1, 4, 3), 1000)
    assert found.pairs.tolist() == [[1, 0], [1, 2], [2, 0]]
    assert found.bands.tolist() == [0, 1, 2]
    assert found.giants == ()


def test_the_same_key_in_two_bands_is_no_meeting():
    assert len(candidate_pairs(keys_of("a.", ".a"), ranks_of(0, 1), 1000).pairs) == 0


@pytest.mark.parametrize("size", [2, 16, 17])
def test_all_pairs_of_a_small_bucket_are_nominated(size):
    ranks = np.random.default_rng(0).permutation(size)
    found = candidate_pairs(keys_of("a" * size), ranks, 1000)
    expected = {tuple(sorted(pair, key=lambda each: ranks[each])) for pair in combinations(range(size), 2)}
    assert set(map(tuple, found.pairs.tolist())) == expected


def test_in_a_large_bucket_the_first_eight_and_the_eight_before_are_met():
    found = candidate_pairs(keys_of("a" * 40), np.arange(40), 1000)
    expected = [
        [first, second] for first, second in combinations(range(40), 2) if first < 8 or second - first <= 8
    ]
    assert found.pairs.tolist() == expected


def test_in_a_giant_bucket_the_first_and_the_one_before_are_met_and_it_is_reported():
    found = candidate_pairs(keys_of("b" + "a" * 30 + "b"), np.arange(32)[::-1], 20)
    in_order = list(range(30, 0, -1))
    expected = {(30, each) for each in in_order[1:]} | set(pairwise(in_order)) | {(31, 0)}
    assert set(map(tuple, found.pairs.tolist())) == expected
    assert found.giants == (GiantBucket(band=0, key=ord("a"), size=30, example=30),)


def random_keys(seed: int, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    random_ = np.random.default_rng(seed)
    keys = random_.zipf(1.3, (count, 5)).astype(np.uint64) % np.uint64(
        300
    )  # from lonely ones to giants; some NO_KEY
    return keys, random_.permutation(count)


@pytest.mark.parametrize("partitions", [1, 3, 50])
def test_partitions_of_the_keys_come_to_the_same_pairs_as_one_machine(partitions):
    keys, ranks = random_keys(partitions)
    index = np.sort(np.random.default_rng(9).choice(1 << 50, len(keys), replace=False)).astype(np.int64)
    whole = candidate_pairs(keys, ranks, 60)
    rows = np.random.default_rng(1).permutation(keys.size)
    document, band = rows // keys.shape[1], (rows % keys.shape[1]).astype(np.int16)
    key = keys[document, band]
    partition = (key * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(40)) % np.uint64(partitions)
    parts = []
    for number in range(partitions):
        mine = partition == number
        parts.append(
            pairs_in_buckets(band[mine], key[mine], ranks[document[mine]], index[document[mine]], 60)
        )
    merged = merge(parts)
    assert np.array_equal(merged.pairs, index[whole.pairs])
    assert np.array_equal(merged.bands, whole.bands)
    assert merged.giants == tuple(
        GiantBucket(giant.band, giant.key, giant.size, int(index[giant.example])) for giant in whole.giants
    )
    assert len(whole.giants) > 2


def test_pairs_do_not_depend_on_the_order_of_documents():
    keys, ranks = random_keys(4)
    shuffled = np.random.default_rng(5).permutation(len(keys))
    found, again = candidate_pairs(keys, ranks, 60), candidate_pairs(keys[shuffled], ranks[shuffled], 60)
    assert set(map(tuple, ranks[found.pairs].tolist())) == set(
        map(tuple, ranks[shuffled][again.pairs].tolist())
    )


def test_no_documents_no_pairs():
    assert candidate_pairs(np.empty((0, 14), np.uint64), np.empty(0, np.int64), 10).pairs.shape == (0, 2)
    empty = Candidates(np.empty((0, 2), np.int64), np.empty(0, np.int16), ())
    assert merge([]).pairs.shape == merge([empty, empty]).pairs.shape == (0, 2)


def test_prefilter_leaves_out_pairs_whose_signatures_differ_clearly(monkeypatch):
    signatures = np.zeros((4, 100), np.uint32)
    signatures[1, :30], signatures[2, :43], signatures[3, :44] = 1, 1, 1
    asked = []

    def at(positions):
        asked.append(positions.tolist())
        return signatures[positions]

    pairs = np.array([[0, 1], [0, 2], [3, 0], [3, 2]])
    # 0.7 less three times the error of 100 places, 0.046, is 0.563.
    assert prefilter(pairs, at, 0.7).tolist() == [True, True, False, True]
    monkeypatch.setattr("heliostat.data.near_dedup._CHUNK_PAIRS", 2)
    assert prefilter(pairs, at, 0.7).tolist() == [True, True, False, True]
    assert asked == [[0, 1, 2, 3], [0, 1, 2], [0, 2, 3]]


@pytest.mark.slow
def test_a_million_documents_in_giant_buckets_take_linear_time():
    keys = np.random.default_rng(0).integers(1, 4, (1_000_000, 2), dtype=np.uint64)
    started = time.process_time()
    found = candidate_pairs(keys, np.arange(1_000_000), 1000)
    assert len(found.giants) == 6
    assert len(found.pairs) < 4_000_000
    assert time.process_time() - started < 60  # 2 s alone on the machine


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["ab ", "x", " ".join(WORDS)], ids=["two", "one", "words"])
def test_a_document_of_50_mb_that_repeats_itself_takes_linear_time(unit):
    text = unit * (50_000_000 // len(unit.encode()))
    started = time.process_time()
    assert (sketch([text]).signatures != 0xFFFFFFFF).all()
    assert time.process_time() - started < 40  # 3 s alone on the machine
