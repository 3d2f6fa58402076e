"""Tool calls in an answer's text: found in each model's form, in whatever pieces the text comes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.serving.api.answering import TextDelta
from heliostat.serving.api.tool_calls import ToolCallParser, with_calls
from heliostat.serving.api.tool_syntax import FORCED, HERMES, LLAMA, MISTRAL

NAMES = ["weather", "time"]
pytestmark = pytest.mark.anyio


def parse(syntax, pieces, single=False) -> tuple[str, list[tuple[str, str]]]:
    """(what is said, (name, arguments) of each call)."""
    parser = ToolCallParser(syntax, NAMES, single)
    said, calls = "", {}
    for piece in pieces:
        text, deltas = parser.push(piece)
        said += text
        for delta in deltas:
            if delta.id is not None:
                assert delta.index == len(calls)
                calls[delta.index] = [delta.name, ""]
            calls[delta.index][1] += delta.arguments
    said += parser.flush()
    assert parser.num_calls == len(calls)
    return said, [(name, arguments) for name, arguments in calls.values()]


PARIS = '{"city": "Paris <\\"}] tool_call>", "days": [1, {"a": null}]}'
CASES = [
    # Hermes, Qwen
    (HERMES, "Just text.", "Just text.", []),
    (HERMES, "", "", []),
    (HERMES, " a <tool b </tool_call> c ", " a <tool b </tool_call> c ", []),
    (
        HERMES,
        f'<tool_call>\n{{"name": "weather", "arguments": {PARIS}}}\n</tool_call>',
        "",
        [("weather", PARIS)],
    ),
    (
        HERMES,
        f'I look.\n\n<tool_call>{{"name": "weather", "arguments": {PARIS}}}</tool_call>\n'
        '<tool_call>{"arguments": {}, "name": "time"}</tool_call>\n',
        "I look.",
        [("weather", PARIS), ("time", "{}")],
    ),
    (HERMES, '<tool_call>{"name": "time"}</tool_call> Done.', " Done.", [("time", "{}")]),
    (HERMES, '<tool_call>{"name": "time", "arguments": null}}</tool_call>', "", [("time", "null")]),
    (
        HERMES,
        '<tool_call>{"name": "time", "arguments": "{\\"a\\": 1}"}</tool_call>',
        "",
        [("time", '{"a": 1}')],
    ),
    (HERMES, '<tool_call>{"name": "other", "arguments": {}}</tool_call>', "", [("other", "{}")]),
    (HERMES, "<tool_call>no json</tool_call>", "<tool_call>no json</tool_call>", []),
    (HERMES, '<tool_call>{"nam": "x"}</tool_call>', '<tool_call>{"nam": "x"}</tool_call>', []),
    (HERMES, '<tool_call>{"name": 5}</tool_call>', '<tool_call>{"name": 5}</tool_call>', []),
    (HERMES, "<tool_call></tool_call>", "<tool_call></tool_call>", []),
    # cut by a limit
    (HERMES, '<tool_call>{"name": "weather", "arguments": {"city": "Pa', "", [("weather", '{"city": "Pa')]),
    (HERMES, '<tool_call>{"name": "wea', '<tool_call>{"name": "wea', []),
    (HERMES, "text <tool_c", "text <tool_c", []),
    # Mistral
    (MISTRAL, f'[TOOL_CALLS][{{"name": "weather", "arguments": {PARIS}}}]', "", [("weather", PARIS)]),
    (
        MISTRAL,
        'Yes[TOOL_CALLS] [{"name": "time", "arguments": {}}, {"name": "weather", "arguments": {"a": 1}}]',
        "Yes",
        [("time", "{}"), ("weather", '{"a": 1}')],
    ),
    (MISTRAL, f"[TOOL_CALLS]weather[ARGS]{PARIS}", "", [("weather", PARIS)]),
    (
        MISTRAL,
        f"[TOOL_CALLS]weather{PARIS}[TOOL_CALLS]time[ARGS]{{}}",
        "",
        [("weather", PARIS), ("time", "{}")],
    ),
    (MISTRAL, "[TOOL_CALLS] nothing of it", "[TOOL_CALLS] nothing of it", []),
    (MISTRAL, "[TOOL", "[TOOL", []),
    # Llama 3
    (LLAMA, f'{{"name": "weather", "parameters": {PARIS}}}', "", [("weather", PARIS)]),
    (LLAMA, f'<|python_tag|>{{"name": "weather", "parameters": {PARIS}}}', "", [("weather", PARIS)]),
    (LLAMA, '\n{"type": "function", "name": "time", "parameters": {}}', "", [("time", "{}")]),
    (
        LLAMA,
        '{"name": "time", "parameters": {}}; {"name": "time", "parameters": {"a": 1}}',
        "",
        [("time", "{}"), ("time", '{"a": 1}')],
    ),
    (LLAMA, ' {"city": "Paris"} ', ' {"city": "Paris"} ', []),
    (LLAMA, '{"name": "Anna", "parameters": {}}', '{"name": "Anna", "parameters": {}}', []),
    (LLAMA, '{"name": "Anna", "age": 5} is she', '{"name": "Anna", "age": 5} is she', []),
    (LLAMA, "[1] A source {", "[1] A source {", []),
    (LLAMA, 'Here: {"name": "time", "parameters": {}}', 'Here: {"name": "time", "parameters": {}}', []),
    (LLAMA, "<|python", "<|python", []),
    (LLAMA, '{"na', '{"na', []),
    # forced by a grammar
    (
        FORCED,
        f'[{{"name": "weather", "arguments": {PARIS}}},\n{{"name": "time", "arguments": {{}}}}]',
        "",
        [("weather", PARIS), ("time", "{}")],
    ),
    (FORCED, '{"name":"time","arguments":{}}', "", [("time", "{}")]),
]


@pytest.mark.parametrize(("syntax", "text", "said", "calls"), CASES)
def test_calls_are_told_from_text(syntax, text, said, calls):
    assert parse(syntax, [text]) == (said, calls)
    assert parse(syntax, text) == (said, calls)  # a letter at a time


@given(case=st.sampled_from(CASES), data=st.data())
def test_pieces_do_not_change_what_is_called(case, data):
    syntax, text, said, calls = case
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert parse(syntax, pieces) == (said, calls)


@given(
    syntax=st.sampled_from([HERMES, MISTRAL, LLAMA]),
    parts=st.lists(
        st.sampled_from(
            [
                "<tool_call>",
                "</tool_call>",
                "[TOOL_CALLS]",
                "[ARGS]",
                "<|python_tag|>",
                '{"name": "time"',
                "}",
                "{",
                ', "arguments": {}',
                ', "parameters": {"a": "',
                '"',
                "\\",
                "[",
                "]",
                "time",
                " ",
                "\n",
                "x",
                ":",
                ",",
            ]
        ),
        max_size=12,
    ),
)
def test_any_rubbish_comes_to_the_same_in_any_pieces_and_ends(syntax, parts):
    text = "".join(parts)
    assert parse(syntax, parts) == parse(syntax, [text]) == parse(syntax, text)


@given(text=st.text("ab <>/{}[]\n"), syntax=st.sampled_from([HERMES, MISTRAL]))
def test_text_without_a_mark_is_not_touched(text, syntax):
    assert parse(syntax, text) == (text, [])


def test_arguments_are_sent_on_as_they_come():
    parser = ToolCallParser(HERMES, NAMES)
    assert parser.push('<tool_call>{"name": "weather", "argu')[1] == []
    (begun,) = parser.push('ments": {"ci')[1]
    assert (begun.name, begun.arguments) == ("weather", '{"ci')
    assert parser.push('ty": 1}')[1][0].arguments == 'ty": 1}'


def test_ids_are_unlike_and_mistrals_are_short():
    ids = set()
    for syntax in (HERMES, MISTRAL):
        text = '{"name": "time", "arguments": {}}'
        _, deltas = ToolCallParser(syntax, NAMES).push((syntax.start + text + syntax.end) * 2)
        ids |= {delta.id for delta in deltas if delta.id}
    assert len(ids) == 4
    assert sorted(map(len, ids)) == [9, 9, 29, 29]


def test_with_one_call_wanted_the_rest_is_left_out():
    call = '<tool_call>{"name": "time", "arguments": {}}</tool_call>'
    assert parse(HERMES, [f"a{call} b {call}"], single=True) == ("a", [("time", "{}")])
    assert parse(HERMES, f"a{call} b {call}", single=True) == ("a", [("time", "{}")])


async def stream_of(*deltas, closed):
    try:
        for delta in deltas:
            yield delta
    finally:
        closed.append(True)


@pytest.mark.parametrize(
    ("text", "reason", "ending"),
    [
        ("Hi", "stop", "stop"),
        ('<tool_call>{"name": "time", "arguments": {}}</tool_call>', "stop", "tool_calls"),
        ('<tool_call>{"name": "time", "arguments": {', "length", "length"),
        ('<tool_call>{"name": "time", "arguments": {}}', "content_filter", "content_filter"),
    ],
)
async def test_calls_are_a_finish_reason_unless_the_answer_was_cut(text, reason, ending):
    deltas = stream_of(TextDelta(text, 3), TextDelta("", 4, reason), closed=[])
    made = [delta async for delta in with_calls(deltas, ToolCallParser(HERMES, NAMES))]
    assert made[-1].finish_reason == ending


async def test_one_wanted_call_ends_the_generation():
    closed: list[bool] = []
    call = '<tool_call>{"name": "time", "arguments": {}}'
    deltas = stream_of(TextDelta(call, 3), TextDelta("endless", 4), TextDelta("", 5, "stop"), closed=closed)
    made = [delta async for delta in with_calls(deltas, ToolCallParser(HERMES, NAMES, single=True))]
    assert (made[-1].completion_tokens, made[-1].finish_reason, closed) == (3, "tool_calls", [True])


def test_long_arguments_cost_time_in_proportion():
    arguments = json.dumps({"text": "a\\" * 5_000})
    pieces = ['<tool_call>{"name": "time", "arguments": ', *arguments, "}</tool_call>"]
    assert parse(HERMES, pieces) == ("", [("time", arguments)])
