"""Gopher's repetition rules: equal to a plain definition, exact in English and Chinese, linear in time."""

import re
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from heliostat.data.documents import Document
from heliostat.data.steps.interface import Refusal
from heliostat.data.steps.repetition import GopherRepetitionStep, make_gopher_repetition
from heliostat.text.words import words

PROSE = (
    "A mirror that follows the sun is called a heliostat. Its motors turn it a little every few seconds, so "
    "that the light always falls on one and the same place.\n\nHundreds of them stand around a tower. At the "
    "top of it a receiver becomes hot enough to melt salt; the salt keeps its heat till evening, when people "
    "come home and want their lamps to shine."
)
CHINESE = "定日镜跟着太阳转动，把光线反射到塔顶。\n\n那里的熔盐被加热，到了晚上仍能发电，供城里的人点灯做饭。"
OFF = {
    "max_duplicate_line_fraction": None,
    "max_duplicate_paragraph_fraction": None,
    "max_duplicate_line_character_fraction": None,
    "max_duplicate_paragraph_character_fraction": None,
    "max_top_ngram_fractions": (),
    "max_duplicate_ngram_fractions": (),
}


def text(content: str) -> Document:
    return Document("u", "file", 1, "d", content)


def judge(content: str, **limits) -> Document | Refusal:
    return make_gopher_repetition(GopherRepetitionStep(**limits))(text(content))


def repeats(pieces: list[str]) -> tuple[float, float]:
    again = [piece for place, piece in enumerate(pieces) if piece in pieces[:place]]
    characters = sum(map(len, pieces))
    return len(again) / (len(pieces) or 1), sum(map(len, again)) / (characters or 1)


def share(found: list[str], starts: list[int], size: int) -> float:
    covered = {place for start in starts for place in range(start, start + size)}
    return sum(len(found[place]) for place in covered) / sum(map(len, found))


def top_share(found: list[str], size: int) -> float:
    grams = [tuple(found[start : start + size]) for start in range(len(found) - size + 1)]
    counts = Counter(grams)
    most = max(counts.values(), default=0)
    if most < 2:
        return 0.0
    longest = max(len("".join(gram)) for gram in counts if counts[gram] == most)
    # A Counter keeps the order of first occurrences.
    top = next(gram for gram in counts if counts[gram] == most and len("".join(gram)) == longest)
    return share(found, [start for start, gram in enumerate(grams) if gram == top], size)


def duplicate_share(found: list[str], size: int) -> float:
    grams = [tuple(found[start : start + size]) for start in range(len(found) - size + 1)]
    return share(found, [start for start, gram in enumerate(grams) if gram in grams[:start]], size)


def plain_judge(content: str, config: GopherRepetitionStep) -> Refusal | None:
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    paragraphs = [paragraph.strip() for paragraph in re.split(r"\n\s*\n", content) if paragraph.strip()]
    figures = [
        ("dup_para_frac", repeats(paragraphs)[0], config.max_duplicate_paragraph_fraction),
        ("dup_para_char_frac", repeats(paragraphs)[1], config.max_duplicate_paragraph_character_fraction),
        ("dup_line_frac", repeats(lines)[0], config.max_duplicate_line_fraction),
        ("dup_line_char_frac", repeats(lines)[1], config.max_duplicate_line_character_fraction),
    ]
    found = words(content)
    if found:
        tops, duplicates = dict(config.max_top_ngram_fractions), dict(config.max_duplicate_ngram_fractions)
        for size in range(2, max((*tops, *duplicates), default=0) + 1):
            figures.append((f"top_{size}_gram", top_share(found, size), tops.get(size)))
            figures.append((f"duplicated_{size}_n_grams", duplicate_share(found, size), duplicates.get(size)))
    broken = (
        Refusal(reason, score) for reason, score, limit in figures if limit is not None and score > limit
    )
    return next(broken, None)


WORDS = st.sampled_from(["a", "bb", "ccc", "dddddddddd", "dddddddddde", "猫", "é", "1"])
SEPARATORS = st.sampled_from([" ", " ", " ", ", ", "\n", "\n\n", "\r\n \n"])
TEXTS = st.lists(st.tuples(WORDS, SEPARATORS).map("".join), max_size=60).map("".join)
FRACTIONS = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0])
NGRAMS = st.dictionaries(st.integers(2, 12), FRACTIONS, max_size=4).map(lambda limits: tuple(limits.items()))


@settings(max_examples=400, deadline=None)
@given(TEXTS, NGRAMS, NGRAMS)
def test_ngram_rules_judge_as_the_plain_definition_does(content, tops, duplicates):
    limits = OFF | {"max_top_ngram_fractions": tops, "max_duplicate_ngram_fractions": duplicates}
    expected = plain_judge(content, GopherRepetitionStep(**limits)) or text(content)
    assert judge(content, **limits) == expected


@settings(max_examples=400, deadline=None)
@given(TEXTS, FRACTIONS, FRACTIONS, FRACTIONS, FRACTIONS)
def test_line_rules_judge_as_the_plain_definition_does(content, lines, paragraphs, of_lines, of_paragraphs):
    limits = {
        "max_duplicate_line_fraction": lines,
        "max_duplicate_paragraph_fraction": paragraphs,
        "max_duplicate_line_character_fraction": of_lines,
        "max_duplicate_paragraph_character_fraction": of_paragraphs,
    }
    expected = plain_judge(content, GopherRepetitionStep(**limits)) or text(content)
    assert judge(content, **limits) == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([PROSE, CHINESE, *PROSE.split(". ")]), max_size=5).map("\n".join))
def test_the_published_limits_judge_prose_as_the_plain_definition_does(content):
    assert judge(content) == (plain_judge(content, GopherRepetitionStep()) or text(content))


@pytest.mark.parametrize("content", [PROSE, CHINESE, "One line.", "一行字"])
def test_prose_stays_as_it_is(content):
    document = text(content)
    assert make_gopher_repetition(GopherRepetitionStep())(document) is document


@pytest.mark.parametrize(
    ("content", "limits", "refusal"),
    [
        ("x\n\ny\n\nx\n\nx", {}, Refusal("dup_para_frac", 0.5)),
        ("你\n\n好\n\n你", {}, Refusal("dup_para_frac", 1 / 3)),
        ("wxyz\n\na\n\nb\n\nc\n\nwxyz", {}, Refusal("dup_para_char_frac", 4 / 11)),
        ("a\nb\n a \nc\na", {}, Refusal("dup_line_frac", 0.4)),
        (
            "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\na",
            {"max_duplicate_line_fraction": 0.08},
            Refusal("dup_line_frac", 1 / 12),
        ),
        ("wxyz\na\nb\nc\nwxyz", {}, Refusal("dup_line_char_frac", 4 / 11)),
        ("a b c d e f g h a b", {}, Refusal("top_2_gram", 0.4)),
        ("a b c d e f g h a b", {"max_top_ngram_fractions": ((2, 0.4),)}, None),
        ("今天好今天坏今天", {}, Refusal("top_2_gram", 0.75)),
        ("aa aa aa aa", {}, Refusal("top_2_gram", 1.0)),
        ("a b", {}, None),
        ("ab cd x ab cd y efgh ij z efgh ij w", {}, Refusal("top_2_gram", 12 / 24)),
        ("ab ab ab x cd ef y cd ef z", {}, Refusal("top_2_gram", 6 / 17)),
        ("cd ef y cd ef z ab ab ab x", {}, Refusal("top_2_gram", 8 / 17)),
        ("a b c d e f a b c d e g", {"max_top_ngram_fractions": ()}, Refusal("duplicated_5_n_grams", 5 / 12)),
        (
            "甲乙丙丁戊己，甲乙丙丁戊庚",
            {"max_top_ngram_fractions": ()},
            Refusal("duplicated_5_n_grams", 5 / 12),
        ),
        (
            "a b c d e f a b c d e f",
            {"max_top_ngram_fractions": (), "max_duplicate_ngram_fractions": ((6, 0.1),)},
            Refusal("duplicated_6_n_grams", 0.5),
        ),
    ],
)
def test_each_rule_names_its_reason_and_figure(content, limits, refusal):
    result = judge(content, **limits)
    if refusal is None:
        assert result == text(content)
    else:
        assert (result.reason, result.score) == (refusal.reason, pytest.approx(refusal.score))


def test_rules_that_are_off_find_nothing():
    assert judge("a\na\n\na\n\na " * 20, **OFF) == text("a\na\n\na\n\na " * 20)


@pytest.mark.parametrize(
    "content", ["", " \n\n\t", "\x00\x01", "\ud800", "😀 😀\n😀 😀 😀", "...\n---", "\u202e"]
)
def test_what_has_no_words_repeats_none(content):
    assert judge(content) == text(content)


def test_right_to_left_text_is_judged_like_any_other():
    assert judge("سلام عليكم يا صديقي سلام عليكم يا اخي").reason == "top_2_gram"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"max_top_ngram_fractions": ((1, 0.2),)}, "1 words are no n-gram; give sizes from 2 to 100"),
        ({"max_duplicate_ngram_fractions": ((5, 15),)}, "the limit of 5 is a fraction from 0 to 1, got 15"),
        ({"max_duplicate_line_fraction": 30}, "less than or equal to 1"),
    ],
)
def test_impossible_limits_are_refused(values, problem):
    with pytest.raises(ValidationError, match=problem):
        GopherRepetitionStep(**values)


def different_words(count: int) -> str:
    return " ".join(f"w{number:x}" for number in range(count))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make_content", "reason"),
    [
        (lambda: different_words(6_500_000), None),
        (lambda: different_words(3_000) * 2_500, "duplicated_5_n_grams"),
        (lambda: "a " * 25_000_000, "top_2_gram"),
        (lambda: "x" * 50_000_000, None),
        (lambda: "\n" * 50_000_000, None),
        (lambda: "\n \t" * 16_000_000, None),
        (lambda: CHINESE * 350_000, "dup_para_frac"),
    ],
    ids=[
        "different words",
        "a repeated page",
        "one word",
        "one long word",
        "blank lines",
        "indents",
        "Chinese",
    ],
)
def test_fifty_megabytes_take_seconds(make_content, reason):
    content = make_content()
    began = time.perf_counter()
    result = judge(content, max_duplicate_ngram_fractions=((5, 0.9), (10, 0.9)))
    assert time.perf_counter() - began < 60
    assert getattr(result, "reason", None) == reason
