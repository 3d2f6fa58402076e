"""Blocklists: what is found in English and Chinese, how much is too much, and where the words come from."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from heliostat.data import phrases
from heliostat.data.documents import Document
from heliostat.data.steps.blocklist import (
    BlocklistStep,
    blocked_words,
    blocklist_fingerprint,
    make_blocklist,
)
from heliostat.data.steps.interface import Refusal
from heliostat.errors import ConfigError
from heliostat.text.words import is_word_border


def text(content: str, **metadata) -> Document:
    return Document("u", "file", 1, "d", content, metadata=metadata)


def judge(content: str, *words: str, **options) -> Document | Refusal:
    return make_blocklist(BlocklistStep(words=words, **options))(text(content))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("a cat", "cat"),
        ("A CAT.", "cat"),
        ("a cat", "CAT"),
        ("snake_cat_case", "cat"),
        ("他说cat吗", "cat"),
        ("那只黑猫走了", "黑猫"),
        ("ABC猫123", "猫"),
        ("GROSSE STRASSE", "Straße"),
        ("a black\n  cat", "black cat"),
        ("use c++.", "C++"),
        ("see #cat", "#cat"),
        ("قطة سوداء هنا", "سوداء"),
        ("a😀cat😀", "cat"),
        ("\x00cat\ud800", "cat"),
        ("cat", "cat"),
    ],
)
def test_a_blocked_word_drops_the_document_and_is_named_as_listed(content, word):
    assert judge(content, word) == Refusal("blocked_word", 1, word)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("concatenate", "cat"),
        ("cats", "cat"),
        ("c\u0327at and cat\u0327", "cat"),
        ("हिन्दी", "हिन्द"),
        ("blackcat", "black cat"),
        ("白猫", "黑猫"),
        ("", "cat"),
        (" \n\t", "cat"),
        ("\ud800\x00", "cat"),
    ],
)
def test_what_is_not_the_word_stays(content, word):
    document = text(content)
    assert make_blocklist(BlocklistStep(words=(word,)))(document) is document


def test_parts_of_words_are_found_when_asked():
    assert judge("concatenate", "cat", whole_words=False) == Refusal("blocked_word", 1, "cat")


def test_the_first_word_found_is_named_and_the_longest_of_those_that_start_together():
    assert judge("dog, cat hat, cat", "cat", "cat hat", "dog") == Refusal("blocked_word", 3, "dog")
    assert judge("a cat hat", "cat", "cat hat", "hat") == Refusal("blocked_word", 1, "cat hat")
    assert judge("a cat hats", "cat", "cat hat", "hat") == Refusal("blocked_word", 1, "cat")


def test_some_matches_may_be_allowed():
    assert judge("cat cat", "cat", max_matches=2) == text("cat cat", blocklist={"matches": 2})
    assert judge("cat cat cat", "cat", max_matches=2) == Refusal("blocked_word", 3, "cat")
    assert judge("猫猫猫", "猫", max_matches=3) == text("猫猫猫", blocklist={"matches": 3})


def test_a_share_of_the_characters_may_be_allowed():
    assert judge("a cat sat", "cat", max_ratio=0.5) == text("a cat sat", blocklist={"matches": 1})
    assert judge("a cat sat", "cat", max_ratio=0.4) == Refusal("blocked_word", 3 / 7, "cat")
    assert judge("黑猫走了", "黑猫", max_ratio=0.4) == Refusal("blocked_word", 0.5, "黑猫")
    assert judge("a cat sat", "cat", max_ratio=0.5, max_matches=0) == Refusal("blocked_word", 1, "cat")


def test_words_come_from_files_too(tmp_path):
    listed = tmp_path / "listed.txt"
    listed.write_text("\ufeffcat\r\n\r\n  black   dog \n猫\n", encoding="utf-8")
    config = BlocklistStep(words=("Cow",), files=(str(listed),))
    assert blocked_words(config) == {"cow": "Cow", "cat": "cat", "black dog": "black   dog", "猫": "猫"}
    step = make_blocklist(config)
    for content in ("a cow", "a cat", "a black dog", "小猫"):
        assert isinstance(step(text(content)), Refusal)


def test_the_fingerprint_is_of_the_words_wherever_they_stand(tmp_path):
    listed = tmp_path / "listed.txt"
    listed.write_text("cat\ndog\n")
    from_file = BlocklistStep(files=(str(listed),))
    before = blocklist_fingerprint(from_file)
    assert before == blocklist_fingerprint(BlocklistStep(words=("DOG", "cat", "cat")))
    listed.write_text("cat\ndog\ncow\n")
    assert blocklist_fingerprint(from_file) != before


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file or folder; correct the path, or take it out"),
        (b"caf\xe9\n", "byte 3 is not UTF-8; save the file as UTF-8"),
        (b" \n\n", "has no words; give one word or phrase a line"),
    ],
)
def test_an_unusable_file_is_one_clear_line(tmp_path, content, problem):
    path = tmp_path / "listed.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        make_blocklist(BlocklistStep(files=(str(path),)))
    message = str(caught.value)
    assert message.startswith(f"blocklist: {path}: ")
    assert message.endswith(problem)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, r"no words to block; give words: \[...\] or files: \[...\]"),
        ({"words": ("cat", " ")}, "one is blank, and would be found everywhere; take it out"),
        ({"words": ("cat",), "max_ratio": 5}, "less than or equal to 1"),
    ],
)
def test_impossible_options_are_refused(values, problem):
    with pytest.raises(ValidationError, match=problem):
        BlocklistStep(**values)


def plain_matches(content: str, words: list[str], whole_words: bool) -> list[tuple[int, int]]:
    found, place = [], 0
    while place < len(content):
        ends = [
            place + len(word)
            for word in words
            if content.startswith(word, place)
            and (
                not whole_words
                or (is_word_border(content, place) and is_word_border(content, place + len(word)))
            )
        ]
        if ends:
            found.append((place, max(ends)))
        place = max(ends, default=place + 1)
    return found


PIECES = st.text(st.sampled_from("ab猫é -"), max_size=30)
LISTED = st.lists(st.text(st.sampled_from("ab猫é"), min_size=1, max_size=4), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(PIECES, LISTED, st.booleans(), st.integers(1, 9))
def test_matches_are_those_of_the_plain_definition_in_blocks_of_any_size(content, words, whole_words, size):
    search = phrases.PhraseSearch({word: word for word in words}, whole_words)
    whole = list(search.matches(content))
    assert whole == plain_matches(content, words, whole_words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phrases, "_BLOCK_CHARACTERS", size)
        assert list(search.matches(content)) == whole


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["concatenate a cat ", "a", "今天天气很好。"])
def test_fifty_megabytes_take_seconds(unit):
    content = unit * (50_000_000 // len(unit.encode()))
    step = make_blocklist(BlocklistStep(words=("cat", "天气", "aaaaaaaaab"), max_ratio=1))
    began = time.perf_counter()
    step(text(content))
    assert time.perf_counter() - began < 120


def test_a_long_list_is_searched_as_fast_as_a_short_one():
    step = make_blocklist(BlocklistStep(words=tuple(f"word{number}" for number in range(20_000))))
    began = time.perf_counter()
    assert step(text("a page without any of them " * 40_000)) == text("a page without any of them " * 40_000)
    assert time.perf_counter() - began < 10
    assert step(text("here is WORD19999")) == Refusal("blocked_word", 1, "word19999")
