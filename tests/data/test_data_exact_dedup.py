"""Exact dedup: of equal keys the first in the total order stays, whatever the order of rows."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.data.exact_dedup import exact_duplicates


def duplicates(keys: list[tuple[int, int]], ranks: list[int]) -> list[tuple[int, int]]:
    gone, kept = exact_duplicates(np.array(keys, np.uint64).reshape(-1, 2), np.array(ranks, np.int64))
    return list(zip(gone.tolist(), kept.tolist(), strict=True))


def test_of_equal_keys_the_lowest_rank_stays():
    keys = [(1, 1), (2, 2), (1, 1), (1, 1), (2, 2), (3, 3)]
    assert duplicates(keys, [0, 1, 2, 3, 4, 5]) == [(2, 0), (3, 0), (4, 1)]
    assert duplicates(keys, [5, 4, 3, 2, 1, 0]) == [(0, 3), (1, 4), (2, 3)]


def test_both_halves_of_a_key_count():
    assert duplicates([(1, 1), (1, 2), (2, 1)], [0, 1, 2]) == []
    assert duplicates([(1, 1), (1, 2), (1, 1), (1, 2)], [3, 2, 1, 0]) == [(0, 2), (1, 3)]


def test_extreme_keys():
    most = 2**64 - 1
    assert duplicates([(0, 0), (most, most), (0, 0), (most, most), (0, most)], [0, 1, 2, 3, 4]) == [
        (2, 0),
        (3, 1),
    ]


@pytest.mark.parametrize("number", [0, 1])
def test_few_documents_have_no_duplicates(number):
    assert duplicates([(7, 7)] * number, list(range(number))) == []


KEYS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=30)


@given(KEYS, st.randoms())
def test_duplicates_are_those_of_the_plain_definition(keys, random_):
    ranks = random_.sample(range(100), len(keys))
    first: dict[tuple[int, int], int] = {}
    for position in sorted(range(len(keys)), key=ranks.__getitem__):
        first.setdefault(keys[position], position)
    expected = [(at, first[key]) for at, key in enumerate(keys) if first[key] != at]
    assert duplicates(keys, ranks) == expected


@pytest.mark.heavy
@pytest.mark.parametrize("different", [1, 2**62])
def test_two_million_documents_take_seconds(different):
    keys = np.random.default_rng(0).integers(0, different, (2_000_000, 2), dtype=np.uint64)
    started = time.process_time()
    gone, _ = exact_duplicates(keys, np.arange(len(keys)))
    assert len(gone) == (len(keys) - 1 if different == 1 else 0)
    assert time.process_time() - started < 30  # 1 s alone on the machine
