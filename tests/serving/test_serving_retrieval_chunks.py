"""Cutting documents into chunks, and putting passages in front of a question."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.serving.api.errors import RefusedRequest
from heliostat.serving.retrieval.chunking import Span, chunk_text, estimate_tokens
from heliostat.serving.retrieval.config import RetrievalConfig
from heliostat.serving.retrieval.grounding import INSTRUCTION, ground
from heliostat.serving.retrieval.passages import Passage

SMALL = RetrievalConfig(chunk_tokens=12, chunk_overlap_tokens=4)
by_way = pytest.mark.parametrize("chunking", ["sentences", "tokens"])
texts = st.text("ab .,!?\n\t1_光。é\u0301\ud800-", max_size=300)


def cut(text, **changes):
    config = RetrievalConfig(**{**SMALL.model_dump(), **changes})
    return [text[start:end] for start, end in chunk_text(text, config)]


def test_sentences_stay_whole_where_they_fit():
    text = "One two three. Four five six? Seven eight nine ten. Eleven! 天气很好。我们去公园。"
    assert cut(text, chunk_overlap_tokens=0) == [
        "One two three. Four five six?",
        "Seven eight nine ten. Eleven! 天气很好。",
        "我们去公园。",
    ]


def test_a_chunk_begins_with_the_end_of_the_one_before():
    text = "One two three. Four five six. Seven eight nine. Ten is here."
    assert cut(text, chunk_tokens=8) == [
        "One two three. Four five six.",
        "Four five six. Seven eight nine.",
        "Seven eight nine. Ten is here.",
    ]


def test_a_decimal_and_a_name_with_a_dot_do_not_end_a_sentence():
    assert cut("Pi is 3.14 by a.b and more of it", chunk_tokens=32) == ["Pi is 3.14 by a.b and more of it"]


@by_way
@given(text=texts)
def test_chunks_cover_the_text_in_order_and_are_small(text, chunking):
    config = RetrievalConfig(chunk_tokens=12, chunk_overlap_tokens=4, chunking=chunking)
    spans = chunk_text(text, config)
    covered = {place for start, end in spans for place in range(start, end)}
    assert covered >= {place for place, letter in enumerate(text) if not letter.isspace()}
    assert all(estimate_tokens(text[start:end]) <= 12 for start, end in spans)
    assert all(one.start < other.start and one.end < other.end for one, other in pairwise(spans))


@by_way
def test_one_endless_word_is_cut(chunking):
    spans = chunk_text("x" * 100_000, RetrievalConfig(chunking=chunking))
    assert spans[0] == Span(0, 160 * 6)
    assert spans[-1].end == 100_000


def test_an_overlap_of_more_than_half_is_refused():
    with pytest.raises(ValueError, match="more than half"):
        RetrievalConfig(chunk_tokens=100, chunk_overlap_tokens=51)


def hit(number, text):
    return Passage(f"doc-{number}", number, 100, 100 + len(text), text, 1 - number / 10)


def words(text):
    return len(text.split())


QUESTION = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How bright is it?"}]


def test_passages_stand_numbered_in_front_of_the_last_question():
    grounded = ground(QUESTION, [hit(1, "It is bright."), hit(2, "It is dark.")], 200)
    assert grounded.messages[0] == QUESTION[0]
    assert grounded.messages[1]["content"] == (
        f"{INSTRUCTION}\n\n[1] It is bright.\n\n[2] It is dark.\n\nQuestion: How bright is it?"
    )
    first, second = grounded.citations
    assert (first.number, first.document_id, first.chunk, first.start, first.end) == (1, "doc-1", 1, 100, 113)
    assert (second.number, second.score, second.text) == (2, 0.8, "It is dark.")
    assert QUESTION[1]["content"] == "How bright is it?", "the messages given are left alone"


def test_what_does_not_fit_is_left_out_and_numbers_have_no_gaps():
    room = words(INSTRUCTION) + 1 + 12
    hits = [hit(1, "a b c"), hit(2, "a " * 30), hit(3, "d e")]
    grounded = ground(QUESTION, hits, room, words)
    assert [(each.number, each.document_id) for each in grounded.citations] == [(1, "doc-1"), (2, "doc-3")]
    added = words(grounded.messages[1]["content"]) - words(QUESTION[1]["content"])
    assert added <= room


def test_if_none_fits_the_first_is_cut_between_words():
    room = words(INSTRUCTION) + 1 + 6
    grounded = ground(QUESTION, [hit(1, "alpha beta gamma delta epsilon zeta eta")], room, words)
    (citation,) = grounded.citations
    assert (citation.text, citation.start, citation.end) == ("alpha beta gamma delta", 100, 122)


@given(st.lists(st.text("ab ", min_size=1, max_size=60), max_size=5), st.integers(0, 120))
def test_the_budget_is_kept_whatever_is_found(found, budget):
    hits = [hit(number, text) for number, text in enumerate(found)]
    grounded = ground(QUESTION, hits, budget, words)
    assert words(grounded.messages[1]["content"]) <= words(QUESTION[1]["content"]) + budget
    assert bool(grounded.citations) == (grounded.messages[1]["content"] != QUESTION[1]["content"])


def test_documents_are_for_questions():
    with pytest.raises(RefusedRequest, match="end with a user message"):
        ground([{"role": "assistant", "content": "x"}], [hit(1, "y")], 100)
    with pytest.raises(RefusedRequest, match="end with a user message"):
        ground([], [], 100)
