"""Splits: whole clusters, exact shares within each stratum, the same whatever the order or the sharding."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from heliostat.data.split_config import SplitConfig
from heliostat.data.splitting import TEST, TRAIN, VALIDATION, split_codes, stirred

ANY_CONFIG = st.builds(
    lambda validation, test, seed, least, by: SplitConfig(
        train=1 - validation - test,
        validation=validation,
        test=test,
        seed=seed,
        min_per_stratum=least,
        stratify_by=by,
    ),
    st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.4]),
    st.sampled_from([0.0, 0.05, 0.1, 0.3]),
    st.integers(-5, 5),
    st.integers(0, 3),
    st.sampled_from(["domain", None]),
)


@st.composite
def corpora(draw, clustered: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = draw(st.integers(0, 120))
    whole = st.lists(st.integers(0, 3), min_size=count, max_size=count)
    strata = np.array(draw(whole), dtype=np.int64)
    keys = draw(st.lists(st.integers(0, 2**64 - 1), min_size=count, max_size=count, unique=True))
    own = np.arange(count)
    if clustered:
        near = draw(st.lists(st.integers(0, max(0, count // 3)), min_size=count, max_size=count))
        own = np.where(np.array(draw(whole)) == 0, near, own + count) if count else own
    return strata, own, np.array(keys, dtype=np.uint64)


def keys_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def counts(codes) -> list[int]:
    return np.bincount(codes, minlength=3).tolist()


@settings(max_examples=50)
@given(corpora(), ANY_CONFIG)
def test_a_cluster_lies_on_one_side(corpus, config):
    strata, clusters, keys = corpus
    codes = split_codes(strata, clusters, keys, config)
    assert all(len(set(codes[clusters == cluster])) == 1 for cluster in set(clusters.tolist()))


@settings(max_examples=50)
@given(corpora(), ANY_CONFIG, st.randoms(use_true_random=False))
def test_the_order_of_the_documents_and_the_names_of_clusters_do_not_matter(corpus, config, chance):
    strata, clusters, keys = corpus
    order = list(range(len(keys)))
    chance.shuffle(order)
    codes = split_codes(strata, clusters, keys, config)
    again = split_codes(strata[order], 10**12 - clusters[order], keys[order], config)
    assert again.tolist() == codes[order].tolist()


@settings(max_examples=50)
@given(corpora(clustered=False), ANY_CONFIG)
def test_shares_are_met_to_the_nearest_document_within_each_stratum(corpus, config):
    strata, clusters, keys = corpus
    codes = split_codes(strata, clusters, keys, config)
    strata = strata if config.stratify_by else np.zeros_like(strata)
    for stratum in set(strata.tolist()):
        train, validation, test = counts(codes[strata == stratum])
        total, least = train + validation + test, config.min_per_stratum
        sides = 1 + (config.validation > 0) + (config.test > 0)
        if total < least * sides:
            assert (validation, test) == (0, 0)
            continue
        assert train >= least
        for share, got in ((config.validation, validation), (config.test, test)):
            assert got == 0 if share == 0 else got >= least
            if train > least:
                assert abs(got - share * total) <= 0.5 + 1e-9 or got == least


@settings(max_examples=50)
@given(corpora(), ANY_CONFIG)
def test_clusters_never_take_more_than_the_share_unless_the_minimum_wants_it(corpus, config):
    strata, clusters, keys = corpus
    codes = split_codes(
        strata, clusters, keys, config.model_copy(update={"min_per_stratum": 0, "stratify_by": None})
    )
    _, validation, test = counts(codes)
    assert validation <= config.validation * len(keys) + 0.5 + 1e-9
    assert test <= config.test * len(keys) + 0.5 + 1e-9


@settings(max_examples=50)
@given(corpora(clustered=False), st.integers(1, 20), ANY_CONFIG)
def test_newcomers_move_few_others_and_none_in_other_strata(corpus, newcomers, config):
    strata, clusters, keys = corpus
    config = config.model_copy(update={"stratify_by": "domain", "min_per_stratum": 0})
    fresh = np.array([key for key in keys_of(200, 7) if key not in set(keys)][:newcomers], dtype=np.uint64)
    before = split_codes(strata, clusters, keys, config)
    after = split_codes(
        np.append(strata, np.zeros(newcomers, dtype=np.int64)),
        np.append(clusters, clusters.max(initial=0) + 1 + np.arange(newcomers)),
        np.append(keys, fresh),
        config,
    )[: len(keys)]
    moved = before != after
    assert not moved[strata != 0].any()
    assert moved.sum() <= 2 * (newcomers + 1)


def test_a_thousand_documents_at_eighty_ten_ten():
    codes = split_codes(np.zeros(1000, dtype=np.int64), np.arange(1000), keys_of(1000), SplitConfig())
    assert counts(codes) == [800, 100, 100]
    assert codes.dtype == np.int8


def test_ten_thousand_more_documents_move_few_of_ninety_thousand():
    keys, config = keys_of(100_000), SplitConfig()
    everything = split_codes(np.zeros(100_000), np.arange(100_000), keys, config)
    some = split_codes(np.zeros(90_000), np.arange(90_000), keys[:90_000], config)
    assert (everything[:90_000] != some).sum() < 200


@pytest.mark.parametrize(
    ("documents", "expected"),
    [(1, [1, 0, 0]), (2, [2, 0, 0]), (3, [1, 1, 1]), (4, [2, 1, 1]), (14, [12, 1, 1])],
)
def test_a_small_stratum_gives_each_side_its_minimum_or_stays_in_train(documents, expected):
    codes = split_codes(np.zeros(documents), np.arange(documents), keys_of(documents), SplitConfig())
    assert counts(codes) == expected


def test_a_minimum_of_five_needs_fifteen_documents():
    config = SplitConfig(min_per_stratum=5)
    for documents, expected in ((14, [14, 0, 0]), (15, [5, 5, 5]), (20, [10, 5, 5]), (60, [48, 6, 6])):
        codes = split_codes(np.zeros(documents), np.arange(documents), keys_of(documents), config)
        assert counts(codes) == expected


def test_without_a_test_share_nothing_goes_there():
    config = SplitConfig(train=0.9, validation=0.1, test=0)
    assert counts(split_codes(np.zeros(50), np.arange(50), keys_of(50), config)) == [45, 5, 0]


def test_a_cluster_that_would_go_over_the_share_is_passed_by():
    clusters = np.array([0] * 30 + list(range(1, 71)))  # one cluster of 30, and 70 single documents
    codes = split_codes(np.zeros(100), clusters, keys_of(100), SplitConfig())
    assert counts(codes) == [80, 10, 10]
    assert set(codes[:30].tolist()) == {TRAIN}


@pytest.mark.parametrize("seed", range(10))
def test_shares_are_exact_where_single_documents_can_fill_the_gaps(seed):
    clusters = np.array([*np.arange(40) // 4, *range(100, 160)])  # ten clusters of four, and 60 single ones
    codes = split_codes(np.zeros(100), clusters, keys_of(100, seed), SplitConfig())
    assert counts(codes) == [80, 10, 10]


def test_two_shares_rounded_up_leave_train_its_minimum():
    config = SplitConfig(train=0.1, validation=0.5, test=0.4)
    for documents, expected in ((3, [1, 1, 1]), (4, [1, 2, 1]), (5, [1, 3, 1])):
        assert (
            counts(split_codes(np.zeros(documents), np.arange(documents), keys_of(documents), config))
            == expected
        )


def test_clusters_of_three_come_as_near_as_they_can():
    codes = split_codes(np.zeros(99), np.arange(99) // 3, keys_of(99), SplitConfig())
    assert counts(codes) == [81, 9, 9]


def test_a_minimum_takes_the_smallest_cluster_that_leaves_train_its_own():
    clusters = np.array([0] * 6 + [1] * 4 + [2] * 2)
    codes = split_codes(np.zeros(12), clusters, keys_of(12), SplitConfig())
    assert codes.tolist() == [TRAIN] * 6 + [TEST] * 4 + [VALIDATION] * 2
    everything = split_codes(np.zeros(12), np.zeros(12), keys_of(12), SplitConfig())
    assert counts(everything) == [12, 0, 0]


def test_a_cluster_over_two_strata_counts_for_that_of_its_smallest_key():
    keys = stirred_to_ascend(40)
    strata = np.array([0] * 20 + [1] * 20)
    clusters = np.arange(40)
    clusters[20] = clusters[0]  # the first in order of stratum 0 brings one of stratum 1 along
    codes = split_codes(strata, clusters, keys, SplitConfig(train=0.9, validation=0.1, test=0))
    assert codes[0] == codes[20] == VALIDATION
    assert counts(codes) == [36, 4, 0]


def stirred_to_ascend(count: int) -> np.ndarray:
    keys = keys_of(count)
    return keys[np.argsort(stirred(keys, 0, 1))]


@settings(max_examples=50)
@given(corpora(), st.lists(st.integers(0, 9), min_size=120, max_size=120), ANY_CONFIG, st.randoms())
def test_documents_with_equal_keys_lie_on_one_side_whatever_their_clusters(corpus, few, config, chance):
    strata, clusters, keys = corpus
    keys = np.where(np.array(few[: len(keys)]) > 6, np.array(few[: len(keys)], dtype=np.uint64), keys)
    codes = split_codes(strata, clusters, keys, config)
    for group in (keys, clusters):
        assert all(len(set(codes[group == member])) == 1 for member in set(group.tolist()))
    order = list(range(len(keys)))
    chance.shuffle(order)
    again = split_codes(strata[order], clusters[order], keys[order], config)
    assert again.tolist() == codes[order].tolist()


def test_clusters_tied_by_keys_in_a_chain_are_one():
    keys = np.array([1, 2, 2, 3, 3, 4, 4, 5], dtype=np.uint64)  # clusters 0-1-2-3 share a key with the next
    codes = split_codes(np.zeros(8), np.array([0, 0, 1, 1, 2, 2, 3, 3]), keys, SplitConfig())
    assert counts(codes) == [8, 0, 0]


def test_validation_comes_from_one_end_and_test_from_the_other():
    codes = split_codes(np.zeros(20), np.arange(20), stirred_to_ascend(20), SplitConfig())
    assert codes.tolist() == [VALIDATION] * 2 + [TRAIN] * 16 + [TEST] * 2


def test_another_seed_splits_in_another_way():
    keys = keys_of(1000)
    first, second = (
        split_codes(np.zeros(1000), np.arange(1000), keys, SplitConfig(seed=seed)) for seed in (0, 1)
    )
    assert 200 < (first != second).sum() < 500


@given(st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=50), st.integers(-3, 3), st.integers(0, 9))
def test_stirring_keeps_different_keys_different(keys, seed, purpose):
    assert len(set(stirred(np.array(keys, dtype=np.uint64), seed, purpose).tolist())) == len(keys)


def test_stirring_is_the_same_everywhere_and_forever():
    found = stirred(np.array([0, 1, 2**64 - 1], dtype=np.uint64), 7, 2)
    assert found.tolist() == [6915753714881978185, 4283702930469088024, 10115038488571983349]


def test_nothing_is_split_into_nothing():
    assert split_codes(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.uint64), SplitConfig()).tolist() == []


def test_shares_that_do_not_sum_to_one_are_refused():
    with pytest.raises(ValidationError, match=r"train \+ validation \+ test must be 1, got 0\.9"):
        SplitConfig(train=0.7, validation=0.1, test=0.1)


@pytest.mark.heavy
def test_two_million_documents_in_seconds():
    chance = np.random.default_rng(0)
    count = 2_000_000
    clusters = np.where(chance.random(count) < 0.1, chance.integers(0, count // 30, count), np.arange(count))
    start = time.process_time()
    codes = split_codes(chance.integers(0, 50, count), clusters, keys_of(count), SplitConfig())
    assert time.process_time() - start < 10
    assert np.abs(np.bincount(codes) / count - [0.8, 0.1, 0.1]).max() < 0.0001
