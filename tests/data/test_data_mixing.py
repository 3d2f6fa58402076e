"""Mixing: the asked shares of the tokens, proved, under the caps, whatever the order of the documents."""

import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from heliostat.data.mix_config import MixConfig, MixGroup
from heliostat.data.mixing import group_codes, mix
from heliostat.errors import DataError

GENERAL, DOMAIN = 1, 0  # positions among the sorted names


def mixture(general=None, domain=None, **options) -> MixConfig:
    groups = {
        "general": MixGroup(match=("web",), weight=general),
        "domain": MixGroup(match=("law",), weight=domain),
    }
    return MixConfig(groups=groups, **options)


def corpus(general: int, domain: int, seed: int = 0, longest: int = 2000):
    """Groups, tokens and keys of so many documents, some 1,000 tokens each."""
    chance = np.random.default_rng(seed)
    groups = np.array([GENERAL] * general + [DOMAIN] * domain)
    tokens = chance.integers(1, longest, len(groups))
    return groups, tokens, chance.integers(0, 2**64, len(groups), dtype=np.uint64)


@st.composite
def problems(draw):
    sizes = draw(st.lists(st.integers(20, 60), min_size=1, max_size=4))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    tokens = np.array(draw(st.lists(st.integers(0, 300), min_size=len(groups), max_size=len(groups))))
    tokens[np.cumsum([0, *sizes[:-1]])] += 1  # no group without a token
    keys = draw(st.lists(st.integers(0, 2**64 - 1), min_size=len(groups), max_size=len(groups), unique=True))
    weights = draw(st.lists(st.integers(1, 9), min_size=len(sizes), max_size=len(sizes)))
    config = MixConfig(
        groups={f"g{at}": MixGroup(match=(f"n{at}",), weight=weight) for at, weight in enumerate(weights)},
        max_repeats=draw(st.integers(1, 5)),
        seed=draw(st.integers(0, 3)),
        tolerance=0.5,
    )
    return groups, tokens, np.array(keys, dtype=np.uint64), config


@settings(max_examples=80)
@given(problems())
def test_caps_hold_and_within_a_group_uses_differ_by_one_at_most(problem):
    groups, tokens, keys, config = problem
    uses, _ = mix(groups, tokens, keys, config)
    assert uses.min() >= 0
    assert uses.max() <= config.max_repeats
    for group in set(groups.tolist()):
        assert np.ptp(uses[groups == group]) <= 1


@settings(max_examples=80)
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_the_documents_does_not_matter(problem, chance):
    groups, tokens, keys, config = problem
    order = list(range(len(keys)))
    chance.shuffle(order)
    uses, proof = mix(groups, tokens, keys, config)
    again, same = mix(groups[order], tokens[order], keys[order], config)
    assert again.tolist() == uses[order].tolist()
    assert same == proof


@settings(max_examples=80)
@given(problems())
def test_the_proof_accounts_for_every_token(problem):
    groups, tokens, keys, config = problem
    uses, proof = mix(groups, tokens, keys, config)
    for position, group in enumerate(proof):
        own, times = tokens[groups == position], uses[groups == position]
        assert group.used_tokens == (own * times).sum()
        assert group.tokens + group.repeated_tokens == group.used_tokens + group.left_out_tokens
        assert group.documents + group.copies == times.sum() + group.left_out_documents
        assert group.most_uses == times.max()
    assert sum(group.asked_share for group in proof) == pytest.approx(1)
    assert sum(group.reached_share for group in proof) == pytest.approx(1)


@settings(max_examples=80)
@given(problems())
def test_shares_are_met_but_for_less_than_the_longest_document(problem):
    groups, tokens, keys, config = problem
    _, proof = mix(groups, tokens, keys, config)
    total = min(
        max(group.tokens / group.asked_share for group in proof),
        min(config.max_repeats * group.tokens / group.asked_share for group in proof),
    )
    for group in proof:
        missing = total * group.asked_share - group.used_tokens
        assert -1e-3 <= missing <= tokens.max() + 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("general", "domain"), [(3000, 3000), (3000, 900), (200, 3000), (60, 60)])
def test_thirty_to_seventy_is_reached_within_half_a_percent_of_each(general, domain, seed):
    _, proof = mix(*corpus(general, domain, seed), mixture())
    assert [group.name for group in proof] == ["domain", "general"]
    assert [group.asked_share for group in proof] == [0.7, 0.3]
    ratio = proof[GENERAL].used_tokens / proof[DOMAIN].used_tokens
    assert abs(ratio / (30 / 70) - 1) < 0.005


def test_left_open_every_document_is_used_and_the_scarce_group_repeated():
    groups, tokens, keys = np.array([1] * 30 + [0] * 20), np.full(50, 100), np.arange(50, dtype=np.uint64)
    uses, proof = mix(groups, tokens, keys, mixture())
    # 3,000 general tokens are 30 parts; 70 are 7,000 of the domain's 2,000: each 3 times, half once more
    assert (uses[groups == GENERAL] == 1).all()
    assert sorted(uses[groups == DOMAIN]) == [3] * 10 + [4] * 10
    assert (proof[DOMAIN].used_tokens, proof[DOMAIN].repeated_tokens, proof[DOMAIN].copies) == (
        7000,
        5000,
        50,
    )
    assert (proof[GENERAL].left_out_documents, proof[GENERAL].most_uses) == (0, 1)


def test_left_open_a_cap_cuts_the_plentiful_group_down():
    groups, tokens, keys = np.array([1] * 90 + [0] * 10), np.full(100, 100), np.arange(100, dtype=np.uint64)
    uses, proof = mix(groups, tokens, keys, mixture(max_repeats=2, tolerance=0.1))
    assert (uses[groups == DOMAIN] == 2).all()
    assert uses[groups == GENERAL].sum() == 8  # 857 tokens are asked
    assert (proof[GENERAL].left_out_documents, proof[GENERAL].left_out_tokens) == (82, 8200)


def test_without_repeats_the_largest_mixture_of_different_documents():
    groups, tokens, keys = np.array([1] * 50 + [0] * 70), np.full(120, 10), np.arange(120, dtype=np.uint64)
    uses, _ = mix(groups, tokens, keys, mixture(max_repeats=1))
    assert uses.max() == 1
    assert (uses[groups == GENERAL].sum(), uses[groups == DOMAIN].sum()) == (30, 70)


def test_a_total_is_met():
    _, proof = mix(*corpus(3000, 3000), mixture(1, 1, total_tokens=500_000))
    assert [group.used_tokens for group in proof] == [pytest.approx(250_000, abs=20)] * 2
    assert {group.most_uses for group in proof} == {1}


@pytest.mark.parametrize("seed", range(10))
def test_a_document_is_exchanged_for_a_longer_one_that_comes_closer(seed):
    config = MixConfig(groups={"all": MixGroup(match=("*",), weight=1)}, total_tokens=17)
    keys = np.random.default_rng(seed).integers(0, 2**64, 4, dtype=np.uint64)
    _, proof = mix(np.zeros(4, dtype=np.int64), np.array([10, 10, 6, 7]), keys, config)
    assert proof[0].used_tokens == 17


def test_a_group_may_have_a_cap_of_its_own():
    config = MixConfig(
        groups={
            "domain": MixGroup(match=("law",), weight=1, max_repeats=10),
            "general": MixGroup(match=("*",), weight=1, max_repeats=1),
        }
    )
    groups, tokens, keys = np.array([1] * 100 + [0] * 10), np.full(110, 7), np.arange(110, dtype=np.uint64)
    uses, _ = mix(groups, tokens, keys, config)
    assert uses.tolist() == [1] * 100 + [10] * 10


def test_a_total_beyond_the_caps_is_refused_with_what_can_be_reached():
    groups, tokens, keys = np.array([1] * 100 + [0] * 10), np.full(110, 100), np.arange(110, dtype=np.uint64)
    expected = (
        "mix: total_tokens=100000 is out of reach: group 'domain' holds 1000 tokens, used 4 times at most, "
        "so at most 5714 keep its share; lower it, raise max_repeats, or add documents"
    )
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        mix(groups, tokens, keys, mixture(total_tokens=100_000))


def test_a_group_without_tokens_is_refused():
    with pytest.raises(
        DataError, match=r"^mix: group 'domain' has no tokens; its 'match' \(law\) finds no domain"
    ):
        mix(np.array([1, 1]), np.array([5, 5]), np.arange(2, dtype=np.uint64), mixture())


def test_shares_that_a_few_long_documents_cannot_make_are_refused():
    with pytest.raises(
        DataError, match=r"^mix: group 'general' reaches 0\.00% of the tokens where 30\.00% are asked"
    ):
        mix(np.array([1, 0]), np.array([9000, 10]), np.arange(2, dtype=np.uint64), mixture())


def test_a_weight_of_zero_leaves_a_group_out():
    groups, tokens, keys = np.array([1] * 4 + [0] * 4), np.full(8, 10), np.arange(8, dtype=np.uint64)
    uses, proof = mix(groups, tokens, keys, mixture(0, 1))
    assert uses.tolist() == [0] * 4 + [1] * 4
    assert (proof[GENERAL].left_out_documents, proof[GENERAL].asked_share) == (4, 0.0)


def test_another_seed_takes_other_documents():
    documents = corpus(1000, 100)
    first, second = (mix(*documents, mixture(max_repeats=1, seed=seed))[0] for seed in (0, 1))
    assert (first != second).sum() > 50


def test_the_longest_matching_pattern_decides():
    config = MixConfig(
        groups={
            "code": MixGroup(match=("web/code*",), weight=1),
            "rest": MixGroup(match=("*",), weight=1),
            "web": MixGroup(match=("web/*", "新闻?"), weight=1),
        }
    )
    names = ["web/code.jsonl", "web/other", "books", "新闻1", "web/[1]"]
    assert group_codes(names, config).tolist() == [0, 2, 1, 2, 2]


def test_a_name_in_no_group_is_refused():
    with pytest.raises(
        DataError, match=r"^mix: domain 'news' belongs to no group; add it to the 'match' of one"
    ):
        group_codes(["web", "news"], mixture())


def test_a_name_in_two_groups_is_refused():
    config = MixConfig(
        by="source",
        groups={"a": MixGroup(match=("x*",), weight=1), "b": MixGroup(match=("*y",), weight=1)},
    )
    with pytest.raises(DataError, match=r"^mix: source 'xy' belongs to 'a' as well as to 'b'"):
        group_codes(["xy"], config)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": {"match": ["x"]}}, "give 'a' a weight; only 'general' and 'domain' have their own"),
        (
            {"general": {"match": ["x"], "weight": 1}, "domain": {"match": ["y"]}},
            "give 'domain' a weight, or no group at all",
        ),
        ({"a": {"match": ["x"], "weight": 0}}, "all weights are 0"),
    ],
)
def test_weights_that_mean_nothing_are_refused(groups, message):
    with pytest.raises(ValidationError, match=message):
        MixConfig.model_validate({"groups": groups})


def test_the_order_of_the_groups_changes_neither_fingerprint_nor_mixture():
    forth = mixture()
    back = MixConfig(groups=dict(reversed(forth.groups.items())))
    assert list(back.groups) != list(forth.groups)
    assert back.fingerprint() == forth.fingerprint()
    assert mix(*corpus(500, 100), back)[0].tolist() == mix(*corpus(500, 100), forth)[0].tolist()


@pytest.mark.heavy
def test_two_million_documents_in_seconds():
    documents = corpus(1_500_000, 500_000)
    start = time.process_time()
    _, proof = mix(*documents, mixture())
    assert time.process_time() - start < 10
    assert [group.reached_share for group in proof] == [
        pytest.approx(0.7, abs=1e-7),
        pytest.approx(0.3, abs=1e-7),
    ]
