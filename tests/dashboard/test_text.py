"""Figures and words as pages show them."""

import pytest
from dashboard.parts.text import number, plain


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "–"),
        (0.00012345, "0.0001234"),
        (9999.4, "9,999"),
        (9999.7, "10,000"),
        (10321.5, "10,322"),
        (2.5e6 + 0.5, "2,500,000"),
        (12, "12"),
    ],
)
def test_a_figure_is_told_without_powers_of_ten(value, told):
    assert number(value) == told


@pytest.mark.parametrize("name", ["docs@v0.2.0", "docs@v1.2.3-alpha.20231001", "docs@production"])
def test_a_versions_name_is_shown_so_that_it_can_be_copied(name):
    assert plain(name).replace("\\", "") == name
