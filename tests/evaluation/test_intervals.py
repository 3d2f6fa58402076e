"""Bootstrap intervals: they hold the truth about as often as they say, and are the same every time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.evaluation.intervals import bootstrap_interval
from heliostat.evaluation.metrics import bleu, chrf, gap, perplexity, ratio

SCORES = st.lists(st.floats(-100, 100, allow_nan=False), min_size=1, max_size=40)


def as_sums(scores) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    return np.stack([scores, np.ones_like(scores)], axis=1)


@given(SCORES)
def test_the_value_is_the_mean_and_the_interval_stays_within_what_was_seen(scores):
    found = bootstrap_interval(as_sums(scores), ratio, draws=200)
    assert found.value == pytest.approx(np.mean(scores), abs=1e-9)
    slack = 1e-9 * max(1.0, *map(abs, scores))
    assert min(scores) - slack <= found.low <= found.high <= max(scores) + slack


@given(SCORES, st.integers(0, 2**32 - 1))
def test_a_seed_draws_the_same_interval_again(scores, seed):
    first = bootstrap_interval(as_sums(scores), ratio, draws=100, seed=seed)
    assert first == bootstrap_interval(as_sums(scores), ratio, draws=100, seed=seed)


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lambda generator: generator.random(40) < 0.7, 0.7),
        (lambda generator: generator.exponential(2.0, 40), 2.0),
    ],
    ids=["share of right answers", "skewed"],
)
def test_the_interval_holds_the_truth_in_about_95_of_100_draws(draw, truth):
    generator = np.random.default_rng(1)
    intervals = [bootstrap_interval(as_sums(draw(generator)), ratio, draws=600) for _ in range(300)]
    held = np.mean([each.low <= truth <= each.high for each in intervals])
    assert 0.90 <= held <= 0.99


def test_a_perplexity_weighs_every_token_and_draws_whole_documents():
    """Two long documents that are easy, many short ones that are hard."""
    sums = np.array([[100.0, 1000.0]] * 2 + [[30.0, 10.0]] * 20)
    found = bootstrap_interval(sums, perplexity)
    assert found.value == pytest.approx(np.exp(800 / 2200))
    assert found.low < found.value < found.high
    tokens = np.repeat(sums[:, 0] / sums[:, 1], sums[:, 1].astype(int))  # drawn token by token: far too sure
    by_token = bootstrap_interval(as_sums(tokens), perplexity, draws=300)
    assert by_token.high - by_token.low < (found.high - found.low) / 2


def test_a_gap_is_between_the_best_and_the_worst_group():
    sums = np.array([[1.0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]])
    found = bootstrap_interval(sums, gap)
    assert found.value == pytest.approx(0.5)
    assert 0 <= found.low <= found.high <= 1


def test_sums_of_no_output_at_all_are_worth_nothing():
    assert bleu(np.zeros(10)) == 0
    assert chrf(np.zeros(18)) == 0
