"""Conversations: which orders of messages are prompts, and what a message may hold."""

import pytest

from heliostat.serving.api.chat_request import ChatCompletionRequest, ChatMessage
from heliostat.serving.api.errors import RefusedRequest
from heliostat.serving.api.prompts import check_order, to_prompt

ASKED = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}


def conversation(letters: str) -> list[dict]:
    """u: user, a: assistant, s: system, t: tool, c: an assistant's call."""
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool", "c": "assistant", "x": "critic"}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [{"role": names[letter], "content": ""} for letter in letters]
    for message, letter in zip(messages, letters, strict=True):
        if letter == "c":
            message["tool_calls"] = [call]
        if letter == "t":
            message["tool_call_id"] = "1"
    return messages


@pytest.mark.parametrize("letters", ["u", "su", "uau", "suauau", "uct", "suctt", "uctau", "uctct"])
def test_conversations_that_end_with_a_user_or_a_tool_are_prompts(letters):
    assert check_order(conversation(letters)) is None
    to_prompt(ChatCompletionRequest.parse(ASKED | {"messages": conversation(letters)}).messages)


@pytest.mark.parametrize(
    ("letters", "position", "words"),
    [
        ("a", 0, "'user' is due"),
        ("uu", 1, "'assistant' is due"),
        ("ua", 1, "last message"),
        ("s", 0, "last message"),
        ("usu", 1, "'system' where 'assistant'"),
        ("x", 0, "unknown role 'critic'"),
        ("t", 0, "'user' is due"),
        ("uat", 2, "'user' is due"),
        ("uc", 1, "last message"),
        ("ucu", 2, "'tool' is due"),
        ("uctu", 3, "'tool' or 'assistant' is due"),
    ],
)
def test_other_orders_say_where_and_why(letters, position, words):
    problem = check_order(conversation(letters))
    assert problem is not None
    assert problem[0] == position
    assert words in problem[1]


def test_text_parts_and_the_developer_role_are_understood():
    messages = [
        ChatMessage(role="developer", content="Be kind."),
        ChatMessage(role="user", content=[{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]),
    ]
    assert to_prompt(messages) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello"},
    ]


@pytest.mark.parametrize("content", [None, [], [{"type": "image_url", "image_url": {}}], [{"type": "text"}]])
def test_content_that_is_not_text_is_refused(content):
    with pytest.raises(RefusedRequest, match=r"messages\[0\]: content must be text"):
        to_prompt([ChatMessage(role="user", content=content)])


@pytest.mark.parametrize(
    ("place", "changes", "param"),
    [
        (0, {"tool_calls": conversation("c")[0]["tool_calls"]}, "messages.0.tool_calls"),
        (2, {"tool_call_id": None}, "messages.2.tool_call_id"),
        (2, {"tool_call_id": "2"}, "messages.2.tool_call_id"),
    ],
)
def test_calls_and_their_answers_belong_together(place, changes, param):
    messages = conversation("uct")
    messages[place] |= changes
    with pytest.raises(RefusedRequest) as caught:
        to_prompt(ChatCompletionRequest.parse(ASKED | {"messages": messages}).messages)
    assert caught.value.param == param


def test_no_messages_are_refused():
    with pytest.raises(RefusedRequest, match="'messages' is empty"):
        to_prompt([])
