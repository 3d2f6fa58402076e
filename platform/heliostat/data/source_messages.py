"""Messages from what published data sets make of them: OpenAI's and ShareGPT's, with tools and content parts.

Everything comes out in one shape, that of `heliostat.text.chat`; what cannot be said in it has a reason.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heliostat.text.chat import TOOL, Message, ToolDescription, check_messages

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": TOOL,
    "function": TOOL,
    "observation": TOOL,
}
_TEXT_PARTS = ("text", "input_text", "output_text")
READ_KEYS = frozenset(
    {"role", "from", "content", "value", "tool_calls", "function_call", "tool_call_id", "name"}
)
"""The keys of a message that are read; others say nothing to a model."""


@dataclass(frozen=True)
class Content:
    """What a row says, in the fields of a document, or the reason why it cannot be used."""

    text: str = ""
    messages: tuple[Message, ...] = ()
    rejected: tuple[Message, ...] = ()
    answers_from: int = 0
    tools: tuple[ToolDescription, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None


class Unusable(Exception):
    """A row holds something that cannot become messages; says the reason's name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def conversation_of(turns: Any, system: Any = None, tools: Any = None) -> Content:
    """The content of a row with a list of turns, perhaps with a system prompt and tools in other columns."""
    try:
        messages = with_system(messages_of(turns), system)
        described = tools_of(tools)
    except Unusable as unusable:
        return Content(reason=unusable.reason)
    return Content(messages=messages, tools=described, reason=check_messages(messages))


def with_system(messages: tuple[Message, ...], system: Any) -> tuple[Message, ...]:
    """The messages behind a system prompt of its own column, unless they begin with the same one.

    Raises:
        Unusable: it is not text, or they begin with another one.
    """
    said = "" if system is None or system == [] else _text_of(system, may_be_nothing=False)
    if not said.strip():
        return messages
    if not messages or messages[0]["role"] != "system":
        return ({"role": "system", "content": said}, *messages)
    inside = messages[0]["content"].strip()
    if inside and inside != said.strip():
        raise Unusable("different_system_prompts")
    return messages if inside else ({"role": "system", "content": said}, *messages[1:])


def messages_of(turns: Any) -> tuple[Message, ...]:
    """Messages from a list of turns, in whatever order; a csv file or a text column holds the list as JSON.

    Raises:
        Unusable: with the reason why not.
    """
    turns = from_json(turns, "broken_json")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise Unusable("not_a_list_of_messages")
    return tuple(map(_message_of, turns))


def _message_of(turn: Mapping[str, Any]) -> Message:
    said = turn["role"] if "role" in turn else turn.get("from")
    role = _ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        raise Unusable("unknown_role")
    content = turn["content"] if "content" in turn else turn.get("value")
    if type(content) is str and len(turn) == 2 and said != "function_call":
        return {"role": role, "content": content}
    calls = turn.get("tool_calls")
    if said == "function_call":
        calls, content = from_json(content, "broken_tool_call"), ""
    elif not calls and turn.get("function_call"):
        calls = [turn["function_call"]]
    message: Message = {"role": role, "content": _text_of(content, may_be_nothing=bool(calls))}
    if calls:
        calls = from_json(calls, "broken_tool_call")
        message["tool_calls"] = [_call_of(call) for call in (calls if isinstance(calls, list) else [calls])]
    for key in ("tool_call_id", "name"):
        if isinstance(turn.get(key), str) and turn[key]:
            message[key] = turn[key]
    return message


def _text_of(content: Any, may_be_nothing: bool) -> str:
    """The text of a message or a system prompt: a string, or parts of type text put together."""
    if isinstance(content, str):
        return content
    if content is None and may_be_nothing:
        return ""
    if not isinstance(content, list) or not content:
        raise Unusable("content_not_text")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, dict) and kind not in _TEXT_PARTS:
            raise Unusable("unsupported_content_part")
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str):
            raise Unusable("content_not_text")
        texts.append(text)
    return "".join(texts)


def _call_of(call: Any) -> dict[str, Any]:
    """A tool call in OpenAI's shape, its arguments as values: in many data sets they are JSON in a string."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise Unusable("broken_tool_call")
    arguments = function.get("arguments", function.get("parameters"))
    arguments = from_json(arguments, "broken_tool_call") if arguments else {}
    if not isinstance(arguments, dict):
        raise Unusable("broken_tool_call")
    made: dict[str, Any] = {
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments},
    }
    return {"id": call["id"], **made} if isinstance(call.get("id"), str) else made


def tools_of(tools: Any) -> tuple[ToolDescription, ...]:
    """The functions a conversation may call, in OpenAI's shape.

    Raises:
        Unusable: they are no list of named functions.
    """
    tools = from_json(tools, "broken_tools") if tools else []
    if not isinstance(tools, list):
        raise Unusable("broken_tools")
    return tuple(map(_tool_of, tools))


def _tool_of(tool: Any) -> ToolDescription:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise Unusable("broken_tools")
    return {"type": "function", "function": function}


def from_json(value: Any, reason: str) -> Any:
    """The value; of a string, what it is as JSON.

    Raises:
        Unusable: for the reason given, when it is none.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise Unusable(reason) from None


def ends_with_answer(messages: Sequence[Message]) -> bool:
    """Whether an assistant speaks last."""
    return bool(messages) and messages[-1]["role"] == "assistant"
