"""Windows over long text: every token taught once, what is repeated counted to the token."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.data.windows import Window, mask_in, windows_over


@st.composite
def sizes(draw) -> tuple[int, int, int]:
    limit = draw(st.integers(1, 40))
    return draw(st.integers(0, 300)), limit, draw(st.integers(0, limit - 1))


@given(sizes())
def test_each_token_is_taught_in_exactly_one_window(size):
    length, limit, stride = size
    taught = [
        at for window in windows_over(length, limit, stride) for at in range(window.learn_from, window.end)
    ]
    assert taught == list(range(length))


@given(sizes())
def test_windows_fit_and_repeat_the_end_of_the_one_before(size):
    length, limit, stride = size
    windows = windows_over(length, limit, stride)
    for before, window in pairwise(windows):
        assert before.end - before.start == limit
        assert window.learn_from == before.end
        assert window.num_repeated_tokens == stride
    assert all(0 < window.end - window.start <= limit for window in windows)
    assert all(window.start <= window.learn_from < window.end for window in windows)


@given(sizes(), st.randoms(use_true_random=False))
def test_the_masks_of_all_windows_teach_what_the_mask_of_the_text_does(size, chance):
    length, limit, stride = size
    mask = np.array([chance.randint(0, 1) for _ in range(length)], dtype=np.int8)
    total = np.zeros(length, dtype=int)
    for window in windows_over(length, limit, stride):
        total[window.start : window.end] += mask_in(mask, window)
    assert total.tolist() == mask.tolist()


def test_ten_tokens_in_windows_of_four_with_a_stride_of_one():
    assert windows_over(10, 4, 1) == [Window(0, 4, 0), Window(3, 7, 4), Window(6, 10, 7)]
    assert [window.num_repeated_tokens for window in windows_over(10, 4, 1)] == [0, 1, 1]


def test_ten_tokens_cut_at_four():
    assert windows_over(10, 4) == [Window(0, 4, 0), Window(4, 8, 4), Window(8, 10, 8)]


@pytest.mark.parametrize("stride", [0, 512])
def test_a_text_that_fits_is_one_window(stride):
    assert windows_over(2048, 2048, stride) == [Window(0, 2048, 0)]


def test_a_text_one_token_too_long_teaches_that_token_with_context():
    assert windows_over(2049, 2048, 512) == [Window(0, 2048, 0), Window(1536, 2049, 2048)]


def test_an_empty_text_has_no_window():
    assert windows_over(0, 8, 2) == []


def test_the_mask_leaves_the_array_it_was_cut_from_alone():
    mask = np.ones(6, dtype=np.int8)
    assert mask_in(mask, Window(2, 6, 4)).tolist() == [0, 0, 1, 1]
    assert mask.tolist() == [1] * 6
