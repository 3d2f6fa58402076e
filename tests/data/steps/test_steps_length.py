"""Length limits: which side of which limit, in characters, words and tokens."""

import pytest
from pydantic import ValidationError

from heliostat.data.documents import Document
from heliostat.data.steps.interface import Refusal
from heliostat.data.steps.length import LengthStep, make_length


def text(content: str) -> Document:
    return Document("u", "file", 1, "d", content)


def chat(question: str, answer: str) -> Document:
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    return Document("u", "file", 1, "d", messages=messages)


@pytest.mark.parametrize(
    ("limits", "document", "tokens", "refusal"),
    [
        ({"min_characters": 5}, text("four"), 0, Refusal("too_short", 4, "characters")),
        ({"min_characters": 4, "max_characters": 4}, text("four"), 0, None),
        ({"max_characters": 3}, text("four"), 0, Refusal("too_long", 4, "characters")),
        ({"max_characters": 4}, text("四个汉字"), 0, None),
        ({"max_characters": 5}, chat("问题", "答案很长"), 0, Refusal("too_long", 6, "characters")),
        ({"min_words": 3}, text("two words."), 0, Refusal("too_short", 2, "words")),
        ({"min_words": 2, "max_words": 2}, text("two - words."), 0, None),
        ({"max_words": 4}, text("今天天气好。"), 0, Refusal("too_long", 5, "words")),
        ({"min_words": 3}, chat("你好", "hi"), 0, None),
        ({"min_words": 1}, text(" \n"), 0, Refusal("too_short", 0, "words")),
        ({"min_tokens": 8}, text("x"), 7, Refusal("too_short", 7, "tokens")),
        ({"min_tokens": 8, "max_tokens": 8}, text("x"), 8, None),
        ({"max_tokens": 8}, text("x"), 9, Refusal("too_long", 9, "tokens")),
        ({"max_characters": 9, "max_tokens": 8}, text("x"), 9, Refusal("too_long", 9, "tokens")),
        ({"max_words": 1, "min_characters": 99}, text("a b"), 0, Refusal("too_short", 3, "characters")),
    ],
)
def test_length(limits, document, tokens, refusal):
    assert make_length(LengthStep(**limits), lambda _: tokens)(document) == (refusal or document)


def test_tokens_are_not_counted_unless_asked():
    def fail(document: Document) -> int:
        raise AssertionError("counted")

    assert make_length(LengthStep(max_characters=4), fail)(text("four")) == text("four")
    too_long = make_length(LengthStep(max_characters=3, max_tokens=1), fail)(text("four"))
    assert too_long == Refusal("too_long", 4, "characters")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, "no limit given; give at least one, for example min_words=50"),
        ({"min_words": 9, "max_words": 8}, "min_words=9 is above max_words=8; no document could be both"),
        ({"max_tokens": 0}, "greater than or equal to 1"),
    ],
)
def test_impossible_limits_are_refused(values, problem):
    with pytest.raises(ValidationError, match=problem):
        LengthStep(**values)


def test_only_token_limits_need_a_tokenizer():
    assert LengthStep(max_tokens=8).counts_tokens
    assert not LengthStep(min_words=8, max_characters=80).counts_tokens
