"""Text out of streamed ids: whole characters only, nothing lost, nothing behind a stop string."""

import gc
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serving.scripted import prose_tokenizer, word_tokenizer

from heliostat.serving.api.detokenize import BROKEN, Detokenizer, StopStrings
from heliostat.serving.api.vocabulary import vocabulary_of


@pytest.fixture(scope="module")
def words(tiny_model_folder):  # of which it needs nothing but the mark of tests that import torch
    return word_tokenizer()


HARD = "Grüße 🎉👩‍👩‍👧‍👦 日本語 中文字符 e\u0301 \u200bend  two  spaces\n\ttab"


def stream(tokenizer, ids, size=1) -> list[str]:
    detokenizer = Detokenizer(tokenizer)
    pieces = [detokenizer.push(ids[start : start + size]) for start in range(0, len(ids), size)]
    return [*pieces, detokenizer.flush()]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_characters_split_over_tokens_come_whole(tiny_tokenizer, size):
    ids = tiny_tokenizer.encode(HARD)
    assert len(ids) > len(HARD)  # so characters are split
    pieces = stream(tiny_tokenizer, ids, size)
    assert "".join(pieces) == HARD
    assert not any(BROKEN in piece for piece in pieces)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40))
def test_pieces_together_are_the_whole_decoding(tiny_tokenizer, text):
    ids = tiny_tokenizer.encode(text)
    assert "".join(stream(tiny_tokenizer, ids)) == tiny_tokenizer.decode(ids, skip_special_tokens=True)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_ids_come_to_the_text_they_have_together(tiny_tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, len(tiny_tokenizer) - 1), max_size=30))
    size = data.draw(st.integers(1, 4))
    assert "".join(stream(tiny_tokenizer, ids, size)) == tiny_tokenizer.decode(ids, skip_special_tokens=True)


@settings(max_examples=60, deadline=None)
@given(text=st.text("ab c日🎉", max_size=20), size=st.integers(1, 3))
def test_tokens_that_depend_on_their_neighbours_come_to_the_same_text(words, text, size):
    ids = words.encode(text, add_special_tokens=False)
    pieces = stream(words, ids, size)
    assert "".join(pieces) == words.decode(ids, skip_special_tokens=True)
    assert not any(BROKEN in piece for piece in pieces)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_words_that_depend_on_neighbours_come_to_the_text_they_have_together(words, data):
    first = words.convert_tokens_to_ids("<0xFF>") + 1  # one stray byte makes the decoder break its neighbours
    ids = data.draw(st.lists(st.sampled_from([0, 1, *range(first, len(words))]), max_size=30))
    assert "".join(stream(words, ids)) == words.decode(ids, skip_special_tokens=True)


def test_ids_beyond_the_vocabulary_are_no_text(tiny_tokenizer, words):
    for tokenizer in (tiny_tokenizer, words):
        ids = [*tokenizer.encode("ab", add_special_tokens=False), 10**6]
        assert "".join(stream(tokenizer, ids)) == "ab"


def test_special_tokens_that_mark_something_can_be_spelled(tiny_tokenizer, words):
    for tokenizer, mark, behind in ((tiny_tokenizer, "<|im_start|>", "c"), (words, "</s>", " c")):
        token = tokenizer.convert_tokens_to_ids(mark)
        ids = [*tokenizer.encode("ab", add_special_tokens=False), token]
        ids += tokenizer.encode("c", add_special_tokens=False)
        detokenizer = Detokenizer(tokenizer, spelled={token: mark})
        assert detokenizer.push(ids) + detokenizer.flush() == f"ab{mark}{behind}"


@pytest.mark.parametrize("text", ["日", "🎉", "a b", " two", "ab"])
def test_the_bytes_of_tokens_are_those_of_their_text(tiny_tokenizer, words, text):
    for tokenizer in (tiny_tokenizer, words):
        vocabulary = vocabulary_of(tokenizer)
        ids = tokenizer.encode(text, add_special_tokens=False)
        assert b"".join(map(vocabulary.bytes_of, ids)).decode().lstrip() == text.lstrip()
    assert vocabulary_of(tiny_tokenizer).name_of(tiny_tokenizer.encode("日")[0]) == "bytes:\\xe6"


@pytest.mark.parametrize("make", [prose_tokenizer, lambda _: word_tokenizer()], ids=["bytes", "words"])
def test_a_tokenizer_that_nobody_uses_any_more_is_let_go_of(tmp_path, make):
    tokenizer = make(tmp_path)
    detokenizer = Detokenizer(tokenizer)
    assert detokenizer.push(tokenizer.encode("ab a")) + detokenizer.flush()
    assert vocabulary_of(tokenizer).special
    gone = weakref.ref(tokenizer)
    del tokenizer, detokenizer
    gc.collect()
    assert gone() is None


def test_a_long_run_of_broken_bytes_is_shown_and_spoils_nothing_behind_it(tiny_tokenizer):
    broken = tiny_tokenizer.encode("🎉")[-1:] * 20
    pieces = stream(tiny_tokenizer, broken + tiny_tokenizer.encode("🎉 日本"))
    assert "".join(pieces[:15]).startswith(BROKEN)
    assert "".join(pieces).endswith(BROKEN + "🎉 日本")


def test_an_answer_cut_inside_a_character_ends_with_the_mark(tiny_tokenizer):
    ids = tiny_tokenizer.encode("a🎉")[:-1]
    *pieces, rest = stream(tiny_tokenizer, ids)
    assert "".join(pieces) == "a"
    assert set(rest) == {BROKEN}


def test_special_and_hidden_tokens_are_left_out(tiny_tokenizer):
    ids = [*tiny_tokenizer.encode("One"), tiny_tokenizer.eos_token_id, *tiny_tokenizer.encode(" two")]
    assert "".join(stream(tiny_tokenizer, ids)) == "One two"
    hidden = Detokenizer(tiny_tokenizer, frozenset(tiny_tokenizer.encode(" two")))
    assert hidden.push(ids) + hidden.flush() == "One"


def through(stops, pieces) -> tuple[str, bool]:
    cutter = StopStrings(stops)
    shown = "".join(cutter.push(piece) for piece in pieces)
    return shown + cutter.flush(), cutter.stopped


@pytest.mark.parametrize(
    ("stops", "pieces", "expected"),
    [
        (["END"], ["one E", "N", "D two"], ("one ", True)),
        (["END"], ["one EN", "d two"], ("one ENd two", False)),
        (["END"], ["one EN"], ("one EN", False)),
        (["aab"], ["a", "a", "a", "b"], ("a", True)),
        (["\n\n", "Q:"], ["x\n", "Q", ":", "y"], ("x\n", True)),
        (["b", "abc"], ["abc"], ("", True)),
        ([], ["all"], ("all", False)),
    ],
)
def test_stop_strings_cut_across_pieces(stops, pieces, expected):
    assert through(stops, pieces) == expected


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text("ab", max_size=3), max_size=12),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3),
)
def test_pieces_do_not_change_where_the_first_stop_cuts(pieces, stops):
    text = "".join(pieces)
    ends = sorted((place + len(stop), place) for stop in stops if (place := text.find(stop)) >= 0)
    shown, stopped = through(stops, pieces)
    assert stopped == bool(ends)
    if stopped:
        assert text.startswith(shown)
        assert not any(stop in shown for stop in stops)
    else:
        assert shown == text


def test_nothing_is_shown_that_could_still_be_a_stop():
    cutter = StopStrings(["STOP"])
    assert cutter.push("go S") == "go "
    assert cutter.push("TO") == ""
    assert cutter.push("RE") == "STORE"
