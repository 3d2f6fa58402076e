"""The paired comparison: seldom sees what is not there, and sees what is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heliostat.evaluation.gate import SIGNIFICANT
from heliostat.evaluation.metrics import perplexity, ratio
from heliostat.evaluation.paired import ROUNDING, compare_pairs, count_wins

SCORES = hnp.arrays(np.float64, st.integers(1, 30), elements=st.sampled_from([0.0, 0.5, 1.0]))


def as_sums(scores) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    return np.stack([scores, np.ones_like(scores)], axis=1)


@given(SCORES)
def test_a_copy_differs_in_nothing(scores):
    found = compare_pairs(as_sums(scores), as_sums(scores), ratio)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert count_wins(as_sums(scores), as_sums(scores), ratio, True) == (0, 0, len(scores))


@given(st.data())
def test_who_is_called_a_does_not_matter(data):
    a = data.draw(SCORES)
    b = data.draw(hnp.arrays(np.float64, a.shape, elements=st.sampled_from([0.0, 0.5, 1.0])))
    there, back = (
        compare_pairs(as_sums(a), as_sums(b), ratio),
        compare_pairs(as_sums(b), as_sums(a), ratio),
    )
    assert there.difference == pytest.approx(-back.difference, abs=1e-12)
    assert there.p_value == pytest.approx(back.p_value, abs=0.03)
    assert there.low == pytest.approx(-back.high, abs=1e-9)
    wins, losses, ties = count_wins(as_sums(a), as_sums(b), ratio, True)
    assert count_wins(as_sums(b), as_sums(a), ratio, True) == (losses, wins, ties)
    assert wins + losses + ties == len(a)


@given(SCORES)
def test_few_examples_never_suffice(scores):
    """Seven coins fall alike once in 64 throws."""
    few = scores[:7]
    assert compare_pairs(as_sums(few), as_sums(1 - few), ratio).p_value > SIGNIFICANT


def test_rounding_is_no_difference():
    losses = np.random.default_rng(0).gamma(2, 30, size=200)
    a, b = as_sums(losses), as_sums(losses * (1 + ROUNDING / 2))  # all to one side
    found = compare_pairs(a, b, perplexity)
    assert (found.difference, found.p_value) == (0, 1)
    assert count_wins(a, b, perplexity, False) == (0, 0, 200)


@pytest.mark.parametrize(("num_examples", "draws", "most"), [(12, 300, 9), (60, 300, 9), (400, 100, 5)])
def test_draws_from_the_same_model_are_seldom_called_different(num_examples, draws, most):
    """Questions of all difficulties, each answered twice by chance; one in 100 is called different."""
    generator = np.random.default_rng(num_examples)
    difficulty = generator.random(num_examples)
    called = 0
    for _ in range(draws):
        a, b = (generator.random(num_examples) < difficulty for _ in range(2))
        called += compare_pairs(as_sums(a), as_sums(b), ratio).p_value < SIGNIFICANT
    assert called <= most  # more would come once in 1,000


def test_the_p_value_of_a_few_pairs_is_the_exact_one():
    """Ten examples won and none lost: 2 of 2**10 ways to swap differ as much."""
    a, b = np.zeros(10), np.ones(10)
    assert compare_pairs(as_sums(a), as_sums(b), ratio).p_value == pytest.approx(2 / 1024, abs=1e-3)


def test_a_loss_that_rose_everywhere_a_little_is_seen():
    generator = np.random.default_rng(2)
    tokens = generator.integers(10, 100, 60).astype(float)
    loss = tokens * generator.normal(2.5, 0.4, 60)
    a = np.stack([loss, tokens], axis=1)
    b = np.stack([loss * generator.normal(1.02, 0.02, 60), tokens], axis=1)
    found = compare_pairs(a, b, perplexity)
    assert found.p_value < SIGNIFICANT
    assert 0 < found.low < found.difference < found.high
    # unpaired, the intervals of the two would overlap by far
    assert found.high - found.low < 0.2 * np.exp(2.5)
