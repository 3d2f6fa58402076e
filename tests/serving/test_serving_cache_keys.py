"""Keys of questions: nothing that a sender can write makes one question look like another."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.serving.cache.question import Place, Question, Turn

PLACE = Place("acme", "chat", "v1")


def ask(text="What is light?", place=PLACE, parameters=None, **more):
    return Question.of(place, [("user", text)], {"temperature": 0, **(parameters or {})}, **more)


tricky = st.text('ab",\\[]:\0\ud800\udc00\U00010000', max_size=3) | st.sampled_from(["null", "user"])
questions = st.builds(
    Question,
    tenant=tricky,
    model=tricky,
    version=tricky,
    adapter=st.none() | tricky,
    system_prompt=tricky,
    parameters=tricky,
    filter_version=tricky,
    turns=st.lists(st.tuples(tricky, tricky), max_size=3).map(tuple),
    deterministic=st.just(True),
)


@given(questions, questions)
def test_two_questions_share_a_key_only_if_they_are_the_same(one, other):
    assert (one.key == other.key) == (one == other)


@given(questions, questions)
def test_two_questions_share_a_history_only_if_nothing_but_the_last_text_differs(one, other):
    def but_for_last_text(question):
        last = question.turns[-1][0] if question.turns else ""
        return dataclasses.replace(question, turns=()), question.turns[:-1], last

    one, other = (q if q.turns else dataclasses.replace(q, turns=(("user", ""),)) for q in (one, other))
    one, other = (dataclasses.replace(q, turns=tuple(Turn(*turn) for turn in q.turns)) for q in (one, other))
    assert (one.history_scope == other.history_scope) == (but_for_last_text(one) == but_for_last_text(other))


def test_text_moved_from_one_field_to_the_next_is_another_question():
    assert ask(place=Place("ab", "c", "v")).key != ask(place=Place("a", "bc", "v")).key
    assert ask(place=Place("a", "b", "v", None)).key != ask(place=Place("a", "b", "v", "")).key
    together = Question.of(PLACE, [("user", "a"), ("user", "b")], {"temperature": 0})
    assert together.key != ask('a"],["user","b').key
    assert ask("b", system_prompt="a").key != ask("ab").key


def test_line_ends_and_accents_have_one_form_but_indentation_stays():
    assert ask("caf\u00e9\r\nbar\n").key == ask("cafe\u0301\nbar").key
    assert ask("  return x").key != ask("return x").key
    assert ask("x\n\ny").key != ask("x\ny").key


def test_a_text_to_be_continued_is_taken_as_it_stands():
    raw = [Question.of(PLACE, [("prompt", text)], {"temperature": 0}) for text in ("x = ", "x =", "x =\r\n")]
    assert len({question.key for question in raw}) == 3


def test_at_temperature_0_what_draws_among_tokens_does_not_count():
    plain = ask()
    assert plain.deterministic
    assert ask(parameters={"seed": 7, "top_p": 0.5, "top_k": 3}).key == plain.key
    assert ask(parameters={"seed": 7, "logprobs": 2}).key != ask(parameters={"logprobs": 2}).key
    drawn = ask(parameters={"temperature": 0.7, "seed": 7})
    assert not drawn.deterministic
    assert drawn.key != ask(parameters={"temperature": 0.7, "seed": 8}).key


def test_the_order_of_parameters_does_not_count_and_their_values_do():
    assert ask(parameters={"stop": ["x"], "n": 1}).key == ask(parameters={"n": 1, "stop": ["x"]}).key
    assert ask(parameters={"max_tokens": 5}).key != ask(parameters={"max_tokens": 6}).key


def test_what_has_no_json_form_is_refused():
    with pytest.raises(TypeError):
        ask(parameters={"tools": {object()}})
    with pytest.raises(ValueError, match="JSON"):
        ask(parameters={"top": float("nan")})
