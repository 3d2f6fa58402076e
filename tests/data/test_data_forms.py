"""Forms: what published data sets look like, told from their columns or mapped, and what is wrong in them."""

import json

import pytest
from tests.data.source_files import CHAT, contents, read, read_rows, reasons, refusal, write_jsonl

from heliostat.data.config import CleanConfig
from heliostat.data.documents import Document

USER, ANSWER = CHAT
SYSTEM = {"role": "system", "content": "Be brief"}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "北京"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
TOOL_TURNS = [
    USER,
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "晴"},
]


def messages_of(outcomes) -> list[dict]:
    [document] = outcomes
    assert isinstance(document, Document), document
    return list(document.messages)


# Recognised from the columns.


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "你好，世界"}, ["你好，世界"]),
        ({"content": "body"}, ["body"]),
        ({"raw_content": "body", "meta": 1}, ["body"]),
        ({"text": "a", "content": "b"}, ["a"]),
        ({"instruction": "Add", "input": "1 2", "output": "3"}, ["Add\n\n1 2", "3"]),
        ({"instruction": "Add", "input": "", "output": "3"}, ["Add", "3"]),
        ({"instruction": "Add", "output": "3", "text": "Below is an instruction"}, ["Add", "3"]),
        ({"system": "Be brief", "instruction": "Add", "output": "3"}, ["Be brief", "Add", "3"]),
        ({"instruction": "Add", "context": "1 2", "response": "3"}, ["Add\n\n1 2", "3"]),
        ({"question": "1 + 1?", "answer": "2"}, ["1 + 1?", "2"]),
        ({"system_prompt": "s", "question": "q", "response": "r"}, ["s", "q", "r"]),
        ({"prompt": "q", "completion": "r"}, ["q", "r"]),
        ({"prompt": [USER], "completion": [ANSWER]}, ["Hi", "Hello"]),
        ({"messages": CHAT}, ["Hi", "Hello"]),
        ({"messages": json.dumps(CHAT)}, ["Hi", "Hello"]),
        ({"conversations": CHAT, "id": 1}, ["Hi", "Hello"]),
        ({"conversation": [{"from": "user", "value": "Hi"}, {"from": "model", "value": "Yo"}]}, ["Hi", "Yo"]),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}]}, ["Hi", "Yo"]),
        ({"system": "s", "conversations": CHAT}, ["s", "Hi", "Hello"]),
        ({"system": "s", "messages": CHAT}, ["s", "Hi", "Hello"]),
        ({"system_prompt": "请简短", "messages": CHAT}, ["请简短", "Hi", "Hello"]),
        ({"messages": [{"role": "developer", "content": "s"}, *CHAT]}, ["s", "Hi", "Hello"]),
    ],
)
def test_a_form_is_recognised_from_its_columns(tmp_path, row, expected):
    assert contents(read_rows(tmp_path, [row])) == [expected]


def test_columns_with_other_names_are_mapped(tmp_path):
    columns = {"instruction": "q", "output": "a", "domain": "topic"}
    rows = [{"q": "Why?", "a": "Because.", "topic": "logic"}]
    [document] = read_rows(tmp_path, rows, form="alpaca", columns=columns)
    assert document == Document(
        uid="a.jsonl:1",
        source="a.jsonl",
        row=1,
        domain="logic",
        messages=({"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}),
    )


def test_a_mapped_column_decides_the_form(tmp_path):
    rows = [{"messages": CHAT, "body": "plain"}]
    assert contents(read_rows(tmp_path, rows, columns={"text": "body"})) == [["plain"]]


def test_columns_to_keep_become_metadata(tmp_path):
    rows = [{"text": "a", "url": "http://x", "n": 0, "tags": ["x"], "none": None}, {"text": "b"}]
    first, second = read_rows(tmp_path, rows, keep_columns=["url", "n", "tags", "none"])
    assert first.metadata == {"url": "http://x", "n": 0, "tags": ["x"]}
    assert second.metadata == {}


def test_a_misspelt_column_to_keep_is_refused(tmp_path):
    file = write_jsonl(tmp_path / "a.jsonl", [{"text": "a", "url": "b"}])
    said = refusal(kind="jsonl", path=str(file), keep_columns=["urls"])
    assert "no column 'urls'; found: text, url; did you mean 'url'? say it with 'keep_columns: [url]'" in said


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"form": "text", "columns": {"messages": "m"}}, "form 'text' has no column 'messages'; it reads"),
        ({"columns": {"text": ["a", "b"]}}, "'text' is read from one column; only 'labels' from several"),
        ({"domain": "a", "columns": {"domain": "b"}}, "not both"),
    ],
)
def test_impossible_columns_are_refused_by_the_config(source, message):
    with pytest.raises(ValueError, match=message.replace("(", "\\(")):
        CleanConfig.model_validate({"sources": [{"kind": "jsonl", "path": "x", **source}]})


# A system prompt beside the messages.

SHORT = {"role": "system", "content": "请简短回答"}


@pytest.mark.parametrize("column", ["messages", "conversations"])
@pytest.mark.parametrize(
    ("system", "turns", "expected"),
    [
        ("Be brief", CHAT, [SYSTEM, *CHAT]),
        ("请简短回答", CHAT, [SHORT, *CHAT]),
        ([{"type": "text", "text": "请简短"}, {"type": "text", "text": "回答"}], CHAT, [SHORT, *CHAT]),
        ("Be brief", [SYSTEM, *CHAT], [SYSTEM, *CHAT]),
        ("请简短回答\n", [SHORT, *CHAT], [SHORT, *CHAT]),
        ("Be brief", [{"role": "system", "content": " "}, *CHAT], [SYSTEM, *CHAT]),
        (" ", [SHORT, *CHAT], [SHORT, *CHAT]),
        ([], CHAT, CHAT),
        (None, CHAT, CHAT),
    ],
)
def test_a_system_prompt_beside_the_messages_comes_first_and_once(tmp_path, column, system, turns, expected):
    assert messages_of(read_rows(tmp_path, [{"system": system, column: turns}])) == expected


@pytest.mark.parametrize("column", ["messages", "conversations"])
@pytest.mark.parametrize(
    ("system", "turns", "reason"),
    [
        ("Be long", [SYSTEM, *CHAT], "different_system_prompts"),
        ("请详细回答", [SHORT, *CHAT], "different_system_prompts"),
        (5, CHAT, "content_not_text"),
        ([{"type": "image"}], CHAT, "unsupported_content_part"),
    ],
)
def test_a_system_prompt_that_cannot_be_used_has_a_reason(tmp_path, column, system, turns, reason):
    rows = [{"system": None, column: CHAT}, {"system": system, column: turns}]
    assert reasons(read_rows(tmp_path, rows)) == [None, (2, reason)]


def test_a_preference_pair_with_two_system_prompts_is_refused(tmp_path):
    row = {"system": "请详细回答", "chosen": [SHORT, *CHAT], "rejected": [SHORT, USER, BAD]}
    assert reasons(read_rows(tmp_path, [row])) == [(1, "different_system_prompts")]


def test_a_conversation_alone_in_a_json_file_may_have_a_system_prompt_in_parts(tmp_path):
    row = {"system": [{"type": "text", "text": "请简短回答"}], "messages": CHAT}
    (tmp_path / "a.json").write_text(json.dumps(row))
    assert messages_of(read(path=str(tmp_path / "a.json"))) == [SHORT, *CHAT]


# Columns that the first rows of JSON lack.

ALPACA = {"instruction": "Add 加", "output": "3"}


def read_table(folder, name: str, rows: list) -> list:
    file = write_jsonl(folder / name, rows)
    if name.endswith(".json"):
        file.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return read(path=str(file))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize("late", [49, 50, 60])
def test_an_input_is_read_wherever_the_first_one_stands(tmp_path, name, late):
    rows = [*[ALPACA] * late, *[ALPACA | {"input": f"{number} 和 2"} for number in range(20)]]
    expected = [["Add 加", "3"]] * late + [[f"Add 加\n\n{number} 和 2", "3"] for number in range(20)]
    assert contents(read_table(tmp_path, name, rows)) == expected


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_tools_and_system_prompts_are_read_wherever_the_first_ones_stand(tmp_path, name, column):
    further = {"tools": [TOOL], "system": "请简短回答"}
    found = read_table(tmp_path, name, [*[{column: CHAT}] * 60, *[{column: CHAT} | further] * 20])
    assert [list(each.messages) for each in found] == [CHAT] * 60 + [[SHORT, *CHAT]] * 20
    assert [each.tools for each in found] == [()] * 60 + [(TOOL,)] * 20


def test_a_prompt_is_read_wherever_the_first_one_stands(tmp_path):
    whole = {"chosen": [USER, ANSWER], "rejected": [USER, BAD]}
    short = {"prompt": "你好", "chosen": "Hello", "rejected": "Go away"}
    found = read_rows(tmp_path, [*[whole] * 60, short])
    assert contents(found) == [["Hi", "Hello", "Go away"]] * 60 + [["你好", "Hello", "Go away"]]


def test_a_column_is_read_once_and_as_what_the_first_rows_say(tmp_path):
    rows = [ALPACA | {"context": "1 2"}] * 60 + [ALPACA | {"context": "3", "input": "no"}]
    assert contents(read_rows(tmp_path, rows))[-1] == ["Add 加\n\n3", "3"]
    rows = [{"system": "问", "answer": "答"}] * 60
    assert contents(read_rows(tmp_path, rows, columns={"instruction": "system"})) == [["问", "答"]] * 60


def test_labels_are_not_expected_of_plain_text(tmp_path):
    found = read_rows(tmp_path, [{"text": "好"}] * 60 + [{"text": "坏", "label": 1}])
    assert [each.metadata for each in found] == [{}] * 61
    found = read_rows(
        tmp_path, [{"text": "好", "label": 1}] * 60 + [{"text": "坏", "label": 0, "labels": [0]}]
    )
    assert [each.metadata for each in found] == [{"label": 1}] * 60 + [{"label": 0, "labels": [0]}]


# Tools and content parts.


def test_tool_calls_and_tool_messages_are_read(tmp_path):
    called = {
        "id": "c1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "北京"}'},
    }
    turns = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [called], "name": None},
        {"role": "tool", "content": "晴", "tool_call_id": "c1", "name": "weather"},
        ANSWER,
    ]
    [document] = read_rows(tmp_path, [{"messages": turns, "tools": [TOOL]}])
    assert document.messages == (
        USER,
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", **CALL}]},
        {"role": "tool", "content": "晴", "tool_call_id": "c1", "name": "weather"},
        ANSWER,
    )
    assert document.tools == (TOOL,)


@pytest.mark.parametrize(
    "tools",
    [[TOOL], [TOOL["function"]], json.dumps([TOOL]), json.dumps([TOOL["function"]])],
    ids=["OpenAI", "bare functions", "JSON", "bare functions as JSON"],
)
@pytest.mark.parametrize(
    "turns",
    [
        TOOL_TURNS,
        [
            {"from": "human", "value": "Hi"},
            {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "北京"}}'},
            {"from": "observation", "value": "晴"},
        ],
        [USER, {"role": "assistant", "content": "", "tool_calls": [CALL["function"]]}, TOOL_TURNS[2]],
        [
            USER,
            {"role": "assistant", "content": None, "function_call": CALL["function"]},
            {"role": "function", "content": "晴"},
        ],
    ],
    ids=["OpenAI", "ShareGPT", "bare call", "OpenAI's old function_call"],
)
def test_tools_come_out_in_one_shape(tmp_path, turns, tools):
    [document] = read_rows(tmp_path, [{"messages": turns, "functions": tools}], form="messages")
    assert document.messages == tuple(TOOL_TURNS)
    assert document.tools == (TOOL,)


def test_text_parts_are_put_together(tmp_path):
    parts = [{"type": "text", "text": "你"}, {"type": "text", "text": "好"}]
    rows = [{"messages": [{"role": "user", "content": parts}, ANSWER]}]
    assert contents(read_rows(tmp_path, rows)) == [["你好", "Hello"]]


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([{"role": "user", "content": [{"type": "image_url"}]}, ANSWER], "unsupported_content_part"),
        ([{"role": "user", "content": [{"type": "text", "text": None}]}, ANSWER], "content_not_text"),
        ([{"role": "user", "content": [3]}, ANSWER], "content_not_text"),
        ([{"role": "user", "content": []}, ANSWER], "content_not_text"),
        ([{"role": "user", "content": None}, ANSWER], "content_not_text"),
        ([{"role": "user"}, ANSWER], "content_not_text"),
        ([{"role": "critic", "content": "x"}, ANSWER], "unknown_role"),
        ([{"role": ["user"], "content": "x"}, ANSWER], "unknown_role"),
        ([{"from": "alien", "value": "x"}, ANSWER], "unknown_role"),
        ([{"content": "x"}, ANSWER], "unknown_role"),
        ([USER, USER, ANSWER], "wrong_role_order"),
        ([USER, ANSWER, {"role": "tool", "content": "x"}], "wrong_role_order"),
        ([*TOOL_TURNS, USER], "wrong_role_order"),
        ([USER, {"role": "assistant", "content": "", "tool_calls": [CALL]}, USER], "wrong_role_order"),
        ([USER, {"role": "assistant", "content": "", "tool_calls": ["x"]}], "broken_tool_call"),
        ([USER, {"role": "assistant", "content": "", "tool_calls": "{x"}], "broken_tool_call"),
        (
            [USER, {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": "[1]"}]}],
            "broken_tool_call",
        ),
        ([USER, {"from": "function_call", "value": "weather in Beijing"}], "broken_tool_call"),
        ([USER, {"role": "assistant", "content": "  "}], "empty_message"),
        ([USER], "no_answer"),
        ([], "no_messages"),
        ("{oops", "broken_json"),
        ("[" * 100_000, "broken_json"),
        ({"role": "user"}, "not_a_list_of_messages"),
        (["Hi", "Hello"], "not_a_list_of_messages"),
        ([USER, {"role": "assistant", "content": "\ud800"}], "not_unicode"),
    ],
)
def test_messages_that_cannot_be_used_have_a_reason(tmp_path, turns, reason):
    # as ASCII: a lone surrogate can stand in a file as an escape only
    rows = [{"messages": CHAT}, json.dumps({"messages": turns})]
    assert reasons(read_rows(tmp_path, rows)) == [None, (2, reason)]


@pytest.mark.parametrize("tools", ["{x", 5, [{"type": "function"}], ["weather"]])
def test_tools_that_cannot_be_used_have_a_reason(tmp_path, tools):
    assert reasons(read_rows(tmp_path, [{"messages": CHAT, "tools": tools}])) == [(1, "broken_tools")]


def test_what_cannot_be_stored_beside_the_text_is_refused(tmp_path):
    call = {"name": "f", "arguments": {"a": "\ud800"}}
    deep = "[" * 900 + "]" * 900
    rows = [
        json.dumps({"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [call]}]}),
        json.dumps({"messages": CHAT, "note": "\udfff"}),
        f'{{"messages": {json.dumps(CHAT)}, "note": {deep}}}',
    ]
    outcomes = read_rows(tmp_path, rows, keep_columns=["note"])
    assert reasons(outcomes)[:2] == [(1, "not_unicode"), (2, "not_unicode")]
    assert len(outcomes) == 3


# Preference pairs.

BAD = {"role": "assistant", "content": "Go away"}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"},
        {"question": "Hi", "chosen": "Hello", "rejected": "Go away"},
        {"prompt": [USER], "chosen": [ANSWER], "rejected": [BAD]},
        {"prompt": "Hi", "chosen": [USER, ANSWER], "rejected": [USER, BAD], "messages": CHAT},
        {"chosen": [USER, ANSWER], "rejected": [USER, BAD]},
        {"prompt": "Hi", "chosen": json.dumps([USER, ANSWER]), "rejected": json.dumps([USER, BAD])},
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: Go away"},
        {"prompt": "\n\nHuman: Hi\n\nAssistant:", "chosen": " Hello".strip(), "rejected": "Go away"},
        {
            "conversations": [{"from": "human", "value": "Hi"}],
            "chosen": {"from": "gpt", "value": "Hello"},
            "rejected": {"from": "gpt", "value": "Go away"},
        },
    ],
    ids=[
        "strings",
        "question",
        "TRL",
        "UltraFeedback",
        "no prompt",
        "csv",
        "HH-RLHF",
        "HH prompt",
        "ShareGPT",
    ],
)
def test_preference_pairs_are_recognised(tmp_path, row):
    [document] = read_rows(tmp_path, [row])
    assert document.messages == (USER, ANSWER)
    assert document.rejected == (BAD,)


def test_a_preference_pair_keeps_its_system_prompt_and_earlier_turns(tmp_path):
    earlier = [*CHAT, {"role": "user", "content": "又怎样？"}]
    row = {"system": "Be brief", "chosen": [*earlier, ANSWER], "rejected": [*earlier, BAD]}
    [document] = read_rows(tmp_path, [row])
    assert document.messages == (SYSTEM, *earlier, ANSWER)
    assert document.rejected == (BAD,)


def test_pairs_that_differ_in_an_earlier_answer_are_cut_there(tmp_path):
    more = [{"role": "user", "content": "More"}, {"role": "assistant", "content": "End"}]
    [document] = read_rows(tmp_path, [{"chosen": [USER, ANSWER], "rejected": [USER, BAD, *more]}])
    assert document.messages == (USER, ANSWER)
    assert document.rejected == (BAD, *more)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Hi", "chosen": "Hello", "rejected": "Hello"}, "same_answers"),
        ({"prompt": "Hi", "chosen": "Hello", "rejected": None}, "missing_value"),
        ({"prompt": "Hi", "chosen": "Hello", "rejected": " "}, "empty_message"),
        ({"prompt": None, "chosen": "Hello", "rejected": "No"}, "wrong_role_order"),
        ({"prompt": "Hi", "chosen": 1, "rejected": "No"}, "not_a_list_of_messages"),
        ({"chosen": CHAT, "rejected": [{"role": "user", "content": "Yo"}, BAD]}, "different_prompts"),
        ({"chosen": CHAT, "rejected": [USER]}, "no_answer"),
        ({"chosen": CHAT, "rejected": []}, "no_answer"),
    ],
)
def test_pairs_that_cannot_be_used_have_a_reason(tmp_path, row, reason):
    rows = [{"prompt": "x", "chosen": "y", "rejected": "z"}, row]
    assert reasons(read_rows(tmp_path, rows)) == [None, (2, reason)]


# Labels.


@pytest.mark.parametrize(
    ("row", "metadata"),
    [
        ({"text": "好", "label": "正面"}, {"label": "正面"}),
        ({"text": "x", "label": 0}, {"label": 0}),
        ({"text": "x", "label": False}, {"label": False}),
        ({"text": "x", "labels": ["a", None, "b"]}, {"labels": ["a", None, "b"]}),
        ({"text": "x", "labels": '["a", "b"]'}, {"labels": ["a", "b"]}),
        ({"text": "x", "labels": "正面"}, {"labels": ["正面"]}),
        ({"text": "x", "labels": 1}, {"labels": [1]}),
        (
            {"text": "x", "labels": {"bob": "b", "ann": "a"}},
            {"labels": ["a", "b"], "annotators": ["ann", "bob"]},
        ),
        (
            {"text": "x", "labels": [{"annotator": "ann", "label": 1}, {"annotator": 2, "label": 0}]},
            {"labels": [0, 1], "annotators": ["2", "ann"]},
        ),
        ({"text": "x", "label": "a", "labels": ["a", "b"]}, {"label": "a", "labels": ["a", "b"]}),
        ({"text": "x", "annotator_1": "a", "annotator_2": None}, {"labels": ["a", None]}),
        ({"text": "x", "label_a": 1, "label_b": 0, "label_c": 1}, {"labels": [1, 0, 1]}),
    ],
)
def test_labels_become_metadata(tmp_path, row, metadata):
    [document] = read_rows(tmp_path, [row])
    assert document.text == row["text"]
    assert document.metadata == metadata


def test_annotators_columns_are_mapped_in_the_order_given(tmp_path):
    (tmp_path / "a.csv").write_text("body,bob,ann\nx,1,\n", encoding="utf-8")
    columns = {"text": "body", "labels": ["ann", "bob"]}
    [document] = read(kind="csv", path=str(tmp_path / "a.csv"), columns=columns)
    assert document.metadata == {"labels": [None, "1"]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "x", "labels": [None, None]}, "missing_value"),
        ({"text": "x", "labels": []}, "missing_value"),
        ({"text": "x", "labels": "["}, "broken_labels"),
        ({"text": "x", "labels": {"a": {}}}, "broken_labels"),
        ({"text": "x", "labels": [["a"]]}, "broken_labels"),
        ({"text": "x", "labels": [{"vote": 1}]}, "broken_labels"),
        ({"text": None, "labels": ["a"]}, "missing_value"),
        ({"text": ["x"], "labels": ["a"]}, "content_not_text"),
    ],
)
def test_labels_that_cannot_be_used_have_a_reason(tmp_path, row, reason):
    rows = [{"text": "x", "labels": ["a"]}, row]
    assert reasons(read_rows(tmp_path, rows)) == [None, (2, reason)]


# Columns that are missing.


def test_a_missing_column_lists_those_there_are_and_a_close_one(tmp_path):
    path = str(write_jsonl(tmp_path / "a.jsonl", [{"texts": "x", "id": 1}]))
    said = refusal(kind="jsonl", path=path, form="text")
    assert "no column 'text'; found: id, texts; did you mean 'texts'?" in said
    assert "columns: {text: texts}" in said
    assert "cannot tell the form from its columns (id, texts)" in refusal(kind="jsonl", path=path)
    assert "no column 'body'" in refusal(kind="jsonl", path=path, form="text", columns={"text": "body"})
    assert "no column 'topic'" in refusal(
        kind="jsonl", path=path, columns={"text": "texts", "domain": "topic"}
    )
    columns = {"text": "texts", "labels": ["id", "idd"]}
    assert "no column 'idd'; found: id, texts; did you mean 'id'?" in refusal(
        kind="jsonl", path=path, columns=columns
    )
    said = refusal(kind="jsonl", path=path, form="labels", columns={"text": "texts"})
    assert "no column 'label' or 'labels'; found: id, texts" in said
