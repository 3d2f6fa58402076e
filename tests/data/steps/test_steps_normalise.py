"""The step that normalises: its options and its reasons, in English and Chinese."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliostat.data.documents import Document
from heliostat.data.steps.interface import Refusal
from heliostat.data.steps.normalise import NormaliseStep, make_normalise


def text(content: str) -> Document:
    return Document("u", "file", 1, "d", content)


def chat(question: str, answer: str) -> Document:
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    return Document("u", "file", 1, "d", messages=messages)


@pytest.mark.parametrize(
    ("options", "document", "expected"),
    [
        ({}, text("a\r\nb\u200b  "), ["a\nb"]),
        ({}, text("第一行\u3000\r\n第二行"), ["第一行\n第二行"]),
        ({}, chat(" q \u00a0", "\ufeffa"), [" q", "a"]),
        ({}, text("cafÃ© ＡＢＣ, Hi!"), ["cafÃ© ＡＢＣ, Hi!"]),
        ({"unicode_form": "NFKC"}, text("ＡＢＣ１２３ ½"), ["ABC123 1⁄2"]),
        ({"fix_mojibake": True}, text("cafÃ© Itâ€™s\x07"), ["café It’s"]),
        ({"fix_mojibake": True}, chat("好的", "äººå·¥"), ["好的", "人工"]),
        ({"lowercase": True}, text("Straße ÉCOLE 你好 İ"), ["straße école 你好 i̇"]),
        (
            {"remove_punctuation": True},
            text("Well-known, isn't it?\n你好，世界！"),
            ["Wellknown isnt it\n你好世界"],
        ),
        ({"remove_punctuation": True}, text("one -\n\n* \n\ntwo ."), ["one\n\ntwo"]),
        ({"remove_punctuation": True}, text("e'\u0301"), ["é"]),
        ({"unicode_form": "NFKC", "remove_punctuation": True}, text("wait…１"), ["wait1"]),
        ({"collapse_spaces": True}, text("  a  b\t\tc\n\n    d"), ["a b c\n\nd"]),
        (
            {"lowercase": True, "remove_punctuation": True, "collapse_spaces": True},
            text("The - QUICK\u3000“Fox”"),
            ["the quick fox"],
        ),
    ],
)
def test_documents_are_normalised(options, document, expected):
    result = make_normalise(NormaliseStep(**options))(document)
    assert isinstance(result, Document)
    assert result.contents == expected
    assert result.metadata == {}


@pytest.mark.parametrize(
    ("options", "document", "reason"),
    [
        ({}, text("\u200b \n"), "empty"),
        ({}, text(""), "empty"),
        ({}, text("\x00\x01"), "empty"),
        ({}, chat("问\u200b题", "\u200b"), "empty_message"),
        ({"remove_punctuation": True}, text("……！？ -- ***"), "empty"),
        ({"remove_punctuation": True}, chat("?", "a"), "empty_message"),
        ({"remove_punctuation": True}, text("a"), None),
    ],
)
def test_what_says_nothing_is_refused(options, document, reason):
    result = make_normalise(NormaliseStep(**options))(document)
    assert result == (Refusal(reason) if reason else document)


def test_a_clean_document_comes_back_as_it_was():
    for document in (text("Clean.\n\n    code"), chat("问题", "answer"), text("half \ud800 a pair, שלום 😀")):
        assert make_normalise(NormaliseStep())(document) is document


ANY_TEXT = st.text(
    alphabet=st.one_of(
        st.sampled_from(" \t\n\r\x00\u00a0\u200b\u2028\u3000aAé\u0301\u0323\u0307İΣσ中，.…ﬁ½’"),
        st.characters(codec=None, exclude_categories=()),
    ),
    max_size=30,
)


@given(ANY_TEXT, st.sampled_from(["NFC", "NFKC"]), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=400, deadline=None)
def test_normalising_again_changes_nothing(content, form, lowercase, remove_punctuation, collapse_spaces):
    step = make_normalise(
        NormaliseStep(
            unicode_form=form,
            lowercase=lowercase,
            remove_punctuation=remove_punctuation,
            collapse_spaces=collapse_spaces,
        )
    )
    once = step(text(content))
    assert isinstance(once, Refusal) or step(once) is once


@pytest.mark.heavy
def test_a_document_of_50_megabytes_takes_seconds():
    step = make_normalise(NormaliseStep(fix_mojibake=True, lowercase=True, remove_punctuation=True))
    content = "The quick brown fox, Itself; 价格3.14元，很便宜。\r\n" * 900_000
    started = time.process_time()
    assert isinstance(step(text(content)), Document)
    assert time.process_time() - started < 60
