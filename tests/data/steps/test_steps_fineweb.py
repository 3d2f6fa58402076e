"""FineWeb's rules: each limit, its reason and its figure, in English and Chinese."""

import time

import pytest

from heliostat.data.documents import Document
from heliostat.data.steps.fineweb import FineWebStep, make_fineweb
from heliostat.data.steps.interface import Refusal

ENGLISH = "A mirror that follows the sun is called a heliostat."
CHINESE = "定日镜整天跟着太阳转动，把光反射到塔上。"
LIST = "a mirror that follows the sun all day long"
LIST_CHINESE = "定日镜整天跟着太阳转动把光反射到塔上去"


def text(content: str) -> Document:
    return Document("u", "file", 1, "d", content)


def judge(content: str, **limits) -> Document | Refusal:
    return make_fineweb(FineWebStep(**limits))(text(content))


def numbered(line: str, count: int) -> list[str]:
    return [f"{number}{line}" for number in range(count)]


@pytest.mark.parametrize(
    "content", [ENGLISH, CHINESE, f"{ENGLISH}\n\n{CHINESE}", f"{ENGLISH} \r\n{CHINESE}\t"]
)
def test_prose_stays_as_it_is(content):
    document = text(content)
    assert make_fineweb(FineWebStep())(document) is document


@pytest.mark.parametrize(
    ("content", "limits", "refusal"),
    [
        ("", {}, Refusal("empty")),
        (" \n\u3000\n", {}, Refusal("empty")),
        ("\n".join([ENGLISH, *numbered(LIST, 8)]), {}, Refusal("line_punct_ratio", 1 / 9)),
        ("\n".join([ENGLISH, *numbered(LIST, 7)]), {}, None),
        ("\n".join([CHINESE, *numbered(LIST_CHINESE, 8)]), {}, Refusal("line_punct_ratio", 1 / 9)),
        ("\n".join([CHINESE, *numbered(LIST_CHINESE, 7)]), {}, None),
        (
            "\n".join([LIST, ENGLISH]),
            {"min_terminal_punctuation_ratio": 0.6},
            Refusal("line_punct_ratio", 0.5),
        ),
        (f"{ENGLISH}\nIt turns.\nSlowly, too.\n", {}, None),
        (f"{ENGLISH}\nIt turns.\nSlowly, too.\nBut it does.", {}, Refusal("short_line_ratio", 0.75)),
        (f"{ENGLISH}\n{'x' * 29}.\n{'y' * 29}.\n{'z' * 29}.", {}, Refusal("short_line_ratio", 0.75)),
        (f"{ENGLISH}\n{'x' * 30}.\n{'y' * 30}.\n{'z' * 30}.", {"max_newline_to_word_ratio": None}, None),
        (f"{CHINESE}\n它会转。\n转得很慢。\n但是会转。", {}, Refusal("short_line_ratio", 0.75)),
        ("\n".join(numbered("镜跟着太阳转动把光反射到塔。", 4)), {}, Refusal("short_line_ratio", 1.0)),
        ("\n".join(numbered("定日镜跟着太阳转动把光反射到塔。", 4)), {}, None),
        (f"{ENGLISH}\n{CHINESE}\n{ENGLISH}", {}, Refusal("char_dup_ratio", 52 / (52 + 52 + 20))),
        (f"{CHINESE}\n{ENGLISH}\n  {CHINESE}", {}, Refusal("char_dup_ratio", 20 / (20 + 20 + 52))),
        (ENGLISH + "\n" * 3, {}, None),
        (ENGLISH + "\n" * 4, {}, Refusal("list_ratio", 0.4)),
        ("x" * 31 + ".\n" + "y" * 31 + ".", {}, Refusal("list_ratio", 0.5)),
        ("-" * 31 + ".\n" + "=" * 31 + ".", {}, Refusal("list_ratio")),
        (f"{ENGLISH}\n{CHINESE}", {"max_newline_to_word_ratio": 0.01}, Refusal("list_ratio", 1 / 28)),
    ],
)
def test_each_rule_names_its_reason_and_figure(content, limits, refusal):
    result = judge(content, **limits)
    if refusal is None:
        assert result == text(content)
    else:
        assert (result.reason, result.score) == (refusal.reason, pytest.approx(refusal.score))


@pytest.mark.parametrize(
    ("content", "limit"),
    [
        (LIST, "min_terminal_punctuation_ratio"),
        ("Stop the car now.", "max_short_line_ratio"),
        (f"{ENGLISH}\n{ENGLISH}", "max_duplicate_character_ratio"),
        ("x" * 31 + ".\n" + "y" * 31 + ".", "max_newline_to_word_ratio"),
    ],
)
def test_every_limit_can_be_switched_off(content, limit):
    assert isinstance(judge(content), Refusal)
    assert judge(content, **{limit: None}) == text(content)


@pytest.mark.parametrize("content", ["\x00\x01", "\ud800" * 40, "😀" * 40, "\u202e" * 40])
def test_rubbish_is_dropped(content):
    assert isinstance(judge(content), Refusal)


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", [f"{ENGLISH}\n", CHINESE, "x", "\n", "é\n"], ids=["English", "Chinese", "x", "n", "é"]
)
def test_fifty_megabytes_take_seconds(piece):
    content = piece * (50_000_000 // len(piece.encode()))
    began = time.perf_counter()
    judge(content, max_duplicate_character_ratio=1, max_short_line_ratio=1, min_terminal_punctuation_ratio=0)
    assert time.perf_counter() - began < 120
