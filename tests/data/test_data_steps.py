"""The cleaning steps: exact results and reasons, in English and Chinese."""

from collections import Counter

import pytest

from heliostat.data.config import ExactDedupStep, LengthStep, NormaliseStep, PiiStep
from heliostat.data.dedup import find_duplicates, key_of_document
from heliostat.data.documents import Document, Dropped
from heliostat.data.steps import apply_step, apply_steps


def text(content: str) -> Document:
    return Document("u", "file", 1, "d", content)


def chat(question: str, answer: str) -> Document:
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    return Document("u", "file", 1, "d", messages=messages)


def apply(document: Document, step, tokens: int = 0) -> tuple[list[str] | str, Counter]:
    found: Counter[str] = Counter()
    result = apply_step(document, step, lambda _: tokens, found)
    return (result if isinstance(result, str) else result.contents), found


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (text("a\r\nb\u200b  "), ["a\nb"]),
        (text("第一行\u3000\r\n第二行"), ["第一行\n第二行"]),
        (text("\u200b \n"), "empty"),
        (chat(" q \u00a0", "\ufeffa"), [" q", "a"]),
        (chat("问\u200b题", "\u200b"), "empty_message"),
    ],
)
def test_normalise(document, expected):
    assert apply(document, NormaliseStep())[0] == expected


@pytest.mark.parametrize(
    ("limits", "document", "tokens", "reason"),
    [
        ({"min_characters": 5}, text("four"), 0, "too_short"),
        ({"min_characters": 4, "max_characters": 4}, text("four"), 0, None),
        ({"max_characters": 3}, text("four"), 0, "too_long"),
        ({"max_characters": 4}, text("四个汉字"), 0, None),
        ({"max_characters": 5}, chat("问题", "答案很长"), 0, "too_long"),
        ({"min_tokens": 8}, text("x"), 7, "too_short"),
        ({"min_tokens": 8, "max_tokens": 8}, text("x"), 8, None),
        ({"max_tokens": 8}, text("x"), 9, "too_long"),
        ({"max_characters": 9, "max_tokens": 8}, text("x"), 9, "too_long"),
    ],
)
def test_length(limits, document, tokens, reason):
    assert apply(document, LengthStep(**limits), tokens)[0] == (reason or document.contents)


def test_tokens_are_not_counted_unless_asked():
    def fail(document: Document) -> int:
        raise AssertionError("counted")

    assert apply_step(text("four"), LengthStep(max_characters=4), fail, Counter()) == text("four")
    assert apply_step(text("four"), LengthStep(max_characters=3, max_tokens=1), fail, Counter()) == "too_long"


@pytest.mark.parametrize(
    ("step", "document", "expected", "found"),
    [
        ({}, text("ask a@b.org at 8.8.8.8"), ["ask [EMAIL] at [IP]"], {"email": 1, "ip": 1}),
        ({}, chat("写信给a@b.org。", "好的，a@b.org"), ["写信给[EMAIL]。", "好的，[EMAIL]"], {"email": 2}),
        ({"find": ("ip",)}, text("a@b.org"), ["a@b.org"], {}),
        ({"action": "drop"}, text("地址8.8.8.8"), "contains_ip", {"ip": 1}),
        ({"action": "drop"}, chat("q", "a@b.org 8.8.8.8"), "contains_email", {"email": 1, "ip": 1}),
        ({"action": "drop"}, text("clean"), ["clean"], {}),
    ],
)
def test_pii(step, document, expected, found):
    assert apply(document, PiiStep(**step)) == (expected, Counter(found))


def test_steps_run_in_order_and_a_dropped_document_is_kept_as_it_was_then():
    steps = (NormaliseStep(), PiiStep(), LengthStep(min_characters=20))
    result = apply_steps(text("a@b.org\u200b\r\n"), steps, lambda _: 0, Counter())
    assert result == Dropped(text("[EMAIL]"), "length", "too_short")


def test_dedup_is_no_step_over_one_document():
    with pytest.raises(AssertionError):
        apply_step(text("a"), ExactDedupStep(), lambda _: 0, Counter())


def test_documents_that_say_the_same_have_one_key():
    assert key_of_document(text("你好 \u3000世界")) == key_of_document(text("你好 世界\n"))
    assert key_of_document(chat("q", "a")) == key_of_document(chat(" q", "a "))
    assert key_of_document(chat("q", "a")) != key_of_document(chat("qa", ""))
    assert key_of_document(chat("q", "a")) != key_of_document(text("q a"))


def test_of_equal_keys_the_first_stays():
    keys = [(b"a", "1"), (b"b", "2"), (b"a", "3"), (b"a", "4"), (b"b", "5")]
    assert find_duplicates(keys) == {"3": "1", "4": "1", "5": "2"}
