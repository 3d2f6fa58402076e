"""Whether messages are a conversation that can be continued; what they are in the words of chat rendering."""

from collections.abc import Sequence
from typing import Any

from heliostat.serving.api.chat_request import ChatMessage, Tool, ToolCall
from heliostat.serving.api.errors import RefusedRequest, invalid, unsupported
from heliostat.text.chat import (
    ROLES,
    TOOL,
    Message,
    TemplateError,
    ToolDescription,
    due_after,
    render_prompt,
)

ROLE_NAMES = {"developer": "system"}
"""OpenAI's newer name for the same role."""


def render(messages: Sequence[ChatMessage], tools: Sequence[Tool], tokenizer: Any) -> list[int]:
    """The ids of a conversation that is to be continued; training rendered it in the same way.

    Raises:
        RefusedRequest: it is no such conversation, or the model's template cannot say it.
    """
    prompt = to_prompt(messages)
    try:
        return render_prompt(prompt, tokenizer, to_tools(tools))
    except TemplateError as error:
        if tools:
            try:  # whose fault is it?
                render_prompt([message for message in prompt[:2] if message["role"] != TOOL], tokenizer)
            except TemplateError:
                pass
            else:
                raise unsupported("tools", f"cannot be had with this model: {error}") from None
        raise invalid("messages", str(error)) from None


def to_tools(tools: Sequence[Tool]) -> list[ToolDescription]:
    """Tools as templates and training know them."""
    return [{"type": "function", "function": tool.function.as_sent()} for tool in tools]


def to_prompt(messages: Sequence[ChatMessage]) -> list[Message]:
    """Messages with plain text content, ready for `render_prompt`.

    Raises:
        RefusedRequest: they are empty, out of order, or not text.
    """
    if not messages:
        raise RefusedRequest(
            "'messages' is empty; send at least one user message", "empty_array", param="messages"
        )
    plain = [_plain(message, position) for position, message in enumerate(messages)]
    problem = check_order(plain)
    if problem:
        position, reason = problem
        raise RefusedRequest(
            f"messages[{position}]: {reason}", "invalid_value", param=f"messages.{position}.role"
        )
    _check_answers(plain)
    return plain


def check_order(messages: Sequence[Message]) -> tuple[int, str] | None:
    """Where and why messages are not a prompt, or None.

    At most one system message, first; then user and assistant in turn, a user first. Behind an assistant's
    tool calls come the tools' answers. A user or a tool is last.
    """
    start = int(messages[0]["role"] == "system")
    due: tuple[str, ...] = ("user",)
    for position, message in enumerate(messages):
        role = message["role"]
        if role not in (*ROLES, TOOL):
            return position, f"unknown role '{role[:40]}'; use one of {', '.join((*ROLES, TOOL))}"
        if position < start:
            continue
        if role not in due:
            expected = "' or '".join(due)
            return (
                position,
                f"role '{role}' where '{expected}' is due; user and assistant take turns, a user first, "
                "and tools answer an assistant's calls",
            )
        due = due_after(message)
    if "assistant" not in due:
        last = messages[-1]["role"]
        return (
            len(messages) - 1,
            f"the last message is of role '{last}'; end with a user or tool message to be answered",
        )
    return None


def _check_answers(messages: Sequence[Message]) -> None:
    """Each tool message answers a call that was made, and says which."""
    calls: set[str] = set()
    for position, message in enumerate(messages):
        if message["role"] == "assistant":
            calls = {call["id"] for call in message.get("tool_calls", ()) if "id" in call}
        if message["role"] != TOOL:
            continue
        param = f"messages.{position}.tool_call_id"
        answered = message.get("tool_call_id")
        if answered is None:
            raise RefusedRequest(
                f"Missing required parameter: '{param}'", "missing_required_parameter", param=param
            )
        if answered not in calls:
            raise invalid(param, f"the assistant made no call '{answered}' in front of this message")


def _plain(message: ChatMessage, position: int) -> Message:
    role = ROLE_NAMES.get(message.role, message.role)
    calls = message.tool_calls or ()
    plain: Message = {"role": role, "content": _text(message, position, may_be_nothing=bool(calls))}
    if calls and role != "assistant":
        raise invalid(f"messages.{position}.tool_calls", "only the assistant calls tools")
    if calls:
        plain["tool_calls"] = [_call(call) for call in calls]
    if role == TOOL and message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    if role == TOOL and message.name:
        plain["name"] = message.name
    return plain


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": call.function.arguments}
    made = {"type": "function", "function": function}
    return made if call.id is None else {"id": call.id, **made}


def _text(message: ChatMessage, position: int, may_be_nothing: bool) -> str:
    """The content as one string; parts other than text are refused."""
    if isinstance(message.content, str):
        return message.content
    parts = message.content or ()
    texts = [part.text for part in parts if part.type == "text" and part.text is not None]
    if (parts or not may_be_nothing) and (not parts or len(texts) < len(parts)):
        raise RefusedRequest(
            f"messages[{position}]: content must be text or a list of text parts; nothing else is read",
            "invalid_value",
            param=f"messages.{position}.content",
        )
    return "".join(texts)
