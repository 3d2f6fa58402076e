"""The page stands alone, says what the examples say, and runs nothing that a model wrote."""

import re

import pytest

from heliostat.evaluation.comparison import Pairs, compare_pairs_of
from heliostat.evaluation.examples import Example
from heliostat.evaluation.report import scores_of
from heliostat.evaluation.report_page import comparison_page, page

FOUL = "<script>alert(1)</script>"


def examples(wrong: set[int], said: str = "x") -> list[Example]:
    return [
        Example(
            id=f"row-{at}", scores={"acc": float(at not in wrong)}, prompt=f"q{at}", target="t", output=said
        )
        for at in range(30)
    ]


@pytest.fixture
def found():
    return {"base": {"quiz": examples({1, 2, 3})}, "tuned": {"quiz": examples({3}, FOUL)}}


def test_it_needs_nothing_from_elsewhere_and_runs_nothing(found):
    scores = {
        name: {suite: scores_of(each) for suite, each in suites.items()} for name, suites in found.items()
    }
    text = page("t <b>", scores, found)
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "t &lt;b&gt;" in text
    assert "prefers-color-scheme: dark" in text


def test_what_the_models_disagree_on_comes_first(found):
    scores = {
        name: {suite: scores_of(each) for suite, each in suites.items()} for name, suites in found.items()
    }
    text = page("t", scores, found)
    apart = text[text.index("disagree most") : text.index("Worst of base")]
    assert set(re.findall(r"row-\d+", apart)) == {"row-1", "row-2"}
    assert "0.9" in text
    assert "0.9667" in text


def test_a_difference_that_is_more_than_chance_is_coloured(found):
    pairs = Pairs("quiz", {"acc": {"higher_is_better": True}}, examples(set()), examples(set(range(12))))
    comparison = compare_pairs_of(pairs)
    text = comparison_page("t", ("a", "b"), comparison, {"a": {"quiz": pairs.a}, "b": {"quiz": pairs.b}})
    assert '<td class="bad">-0.4</td>' in text
    same = compare_pairs_of(Pairs("quiz", pairs.metrics, pairs.a, pairs.a))
    assert 'class="bad"' not in comparison_page("t", ("a", "b"), same, {})
