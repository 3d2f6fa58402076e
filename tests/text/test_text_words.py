"""Splitting into words: exact results in many scripts, and the fast numbers equal to the plain ones."""

import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliostat.text.words import (
    WordSpans,
    count_unspaced,
    count_words,
    has_words,
    is_word_border,
    lines,
    spaced_words,
    words,
)

UNSPACED_NAMES = (
    "CJK UNIFIED",
    "CJK COMPATIBILITY IDEOGRAPH",
    "HIRAGANA",
    "KATAKANA",
    "HALFWIDTH KATAKANA",
    "BOPOMOFO",
    "THAI",
    "LAO",
    "MYANMAR",
    "KHMER",
)
ANY_TEXT = st.text(
    st.one_of(
        st.sampled_from("abAB01 \t\n.,_-'"),
        st.sampled_from("éß’“”—… àÄ\u0301\u200d"),
        st.sampled_from("你好世界，。カナひ・ーภาษาไทยကမ"),
        st.sampled_from("हिन्दीمرحبا١٢ㅋㅋ한국é½²Ⅻ😀\x00\ud800𠀀"),
        st.characters(max_codepoint=0x2FFF),
    ),
    max_size=60,
)


def plain_words(text: str) -> list[str]:
    found, word = [], ""
    for character in [*text, " "]:
        unspaced = character.isalnum() and unicodedata.name(character, "").startswith(UNSPACED_NAMES)
        mark = unicodedata.category(character)[0] == "M" and 0x300 <= ord(character) <= 0xDFF
        goes_on = bool(word) and (mark or character in "\u200c\u200d")
        if goes_on or (character.isalnum() and not unspaced):
            word += character
        else:
            found += [word] if word else []
            found += [character] if unspaced else []
            word = ""
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\n\u3000", []),
        ("... --- !?", []),
        ("Hello, world!", ["Hello", "world"]),
        ("don't snake_case 3.14", ["don", "t", "snake", "case", "3", "14"]),
        ("“smart” quotes—dash…", ["smart", "quotes", "dash"]),
        ("naïve café", ["naïve", "café"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("你好，世界。", ["你", "好", "世", "界"]),
        ("用Python3写的", ["用", "Python3", "写", "的"]),
        ("ラーメン・はい", ["ラ", "ー", "メ", "ン", "は", "い"]),
        ("한국어 문장입니다. ㅋㅋㅋ", ["한국어", "문장입니다", "ㅋㅋㅋ"]),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा"]),
        ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
        ("ไทย", ["ไ", "ท", "ย"]),
        ("👩‍👩‍👧 ok", ["ok"]),
        ("a\x00b\ud800c", ["a", "b", "c"]),
    ],
)
def test_words(text, expected):
    assert words(text) == expected
    assert count_words(text) == len(expected)


@settings(max_examples=300, deadline=None)
@given(ANY_TEXT)
def test_words_are_those_of_the_plain_definition(text):
    assert words(text) == plain_words(text)


@settings(max_examples=300, deadline=None)
@given(ANY_TEXT, st.integers(0, 9))
def test_a_text_has_so_many_words_or_not(text, least):
    assert has_words(text, least) == (len(words(text)) >= least)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(ANY_TEXT, st.text("ab", min_size=6, max_size=11)), max_size=20).map(" ".join))
def test_spans_say_of_each_word_its_length_and_which_it_equals(text):
    found, spans = words(text), WordSpans(spaced_words(text))
    assert spans.lengths().tolist() == list(map(len, found))
    numbers = spans.numbers().tolist()
    assert len(set(numbers)) == len(set(found)) == len(set(zip(numbers, found, strict=True)))
    assert set(numbers) == set(range(1, len(set(found)) + 1))


def test_words_are_told_apart_by_their_last_letter_whatever_their_length():
    for stem in ("ab" * 20, "é" * 20, "привет" * 4):
        for length in range(1, 20):
            text = " ".join(stem[:length] + end for end in ("x", "y", "x", "", "xx", "y"))
            assert len(set(WordSpans(spaced_words(text)).numbers().tolist())) == 4


@pytest.mark.parametrize(("text", "count"), [("plain", 0), ("naïve", 0), ("你好，hi", 2), ("ไทย。", 3)])
def test_unspaced_words_are_counted(text, count):
    assert count_unspaced(text) == count


@pytest.mark.parametrize(
    ("text", "position", "border"),
    [
        ("cat", 0, True),
        ("cat", 3, True),
        ("cat", 1, False),
        ("a cat", 2, True),
        ("snake_case", 5, True),
        ("猫cat", 1, True),
        ("猫狗", 1, True),
        ("c\u0327at", 1, False),
        ("c\u0327at", 2, False),
        ("दीन", 2, False),
    ],
)
def test_a_word_border_is_where_no_word_goes_on(text, position, border):
    assert is_word_border(text, position) is border


def test_lines_are_those_that_say_something():
    assert lines(" a \r\n\n\u3000\n你好\n") == ["a", "你好"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    ["the quick brown fox ", "x", "今天天气很好。", "e\u0301", "\u0301"],
    ids=["words", "one word", "Chinese", "accents", "accents alone"],
)
def test_fifty_megabytes_take_seconds(unit):
    text = unit * (50_000_000 // len(unit.encode()))
    began = time.perf_counter()
    count_words(text)
    assert time.perf_counter() - began < 30
