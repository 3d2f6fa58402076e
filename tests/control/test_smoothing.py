"""Smoothing sees every point, thinning keeps what stands out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.control.smoothing import bucket_starts, extremes, last_finite, smooth

FINITE = st.floats(-1e6, 1e6)


def slowly(values: np.ndarray, weight: float) -> np.ndarray:
    """The average point by point, as it is defined."""
    result, average, count = np.full(len(values), np.nan), 0.0, 0
    for at, value in enumerate(values):
        if np.isfinite(value):
            count += 1
            average = weight * average + (1 - weight) * value
            result[at] = average / (1 - weight**count)
    return result


@given(st.lists(FINITE | st.sampled_from([np.nan, np.inf, -np.inf]), max_size=700), st.floats(0.01, 0.99))
def test_blocks_give_what_the_definition_gives(values, weight):
    values = np.array(values)
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() == finite.max():
        return
    scale = np.abs(finite).max() if len(finite) else 1.0
    np.testing.assert_allclose(smooth(values, weight), slowly(values, weight), rtol=1e-7, atol=1e-9 * scale)


def test_the_first_value_is_not_drawn_to_zero():
    assert smooth(np.array([5.0, 5.5]), 0.99)[0] == pytest.approx(5.0)


@given(FINITE, st.integers(1, 600), st.floats(0, 0.999))
def test_a_constant_series_is_untouched(value, count, weight):
    assert (smooth(np.full(count, value), weight) == value).all()


def test_gaps_stay_gaps_and_poison_nothing():
    smoothed = smooth(np.array([1.0, np.nan, 3.0, np.inf, 2.0]), 0.5)
    assert np.isnan(smoothed).tolist() == [False, True, False, True, False]
    assert np.isfinite(smoothed[[0, 2, 4]]).all()


@given(st.integers(1, 5000), st.integers(2, 1000))
def test_buckets_hold_every_point_once_and_the_first_alone(count, most):
    starts = bucket_starts(count, most)
    assert len(starts) == min(count, most)
    assert starts[0] == 0
    sizes = np.diff(np.append(starts, count))
    assert (sizes > 0).all()
    assert sizes.sum() == count
    assert sizes[0] == 1
    assert sizes[1:].max(initial=1) - sizes[1:].min(initial=count) <= 1 or count <= most


@given(st.lists(FINITE | st.just(float("nan")), min_size=1, max_size=400), st.integers(2, 30))
def test_a_bucket_keeps_its_last_value_and_its_extremes(values, most):
    values = np.array(values)
    starts = bucket_starts(len(values), most)
    low, high = extremes(values, starts)
    shown = values[last_finite(values, starts)]
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], len(values)], strict=True)):
        finite = values[start:end][np.isfinite(values[start:end])]
        if not len(finite):
            assert np.isnan([low[number], high[number], shown[number]]).all()
            continue
        assert (low[number], high[number]) == (finite.min(), finite.max())
        assert shown[number] == finite[-1]
