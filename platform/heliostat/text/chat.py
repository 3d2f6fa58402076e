"""Chat rendering: the one way in which training, evaluation and serving turn messages into token ids.

A conversation is cut where the model starts and stops speaking, and each piece is tokenized by itself.
So the ids in front of an answer are the same whether the answer is already there (training) or is about to
be written (serving), even where a tokenizer would merge characters across that border.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

ROLES = ("system", "user", "assistant")
TOOL = "tool"
"""The role of what a called tool answers."""


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that rendering needs."""

    chat_template: Any
    eos_token: Any

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Render messages to text."""

    def encode(self, text: str, **options: Any) -> list[int]:
        """Turn text into ids."""


Message = dict[str, Any]
"""`role` and `content`, both strings; perhaps `tool_calls` (assistant), `tool_call_id` and `name` (tool).

A call is `{"type": "function", "function": {"name": ..., "arguments": {...}}}`, perhaps with an `id`.
"""
ToolDescription = dict[str, Any]
"""A function that may be called: `{"type": "function", "function": {"name": ..., ...}}`."""


@dataclass(frozen=True)
class RenderedConversation:
    """Token ids and, for each, whether the model is to learn it (1) or only to read it (0)."""

    input_ids: list[int]
    loss_mask: list[int]


class TemplateError(ValueError):
    """The chat template cannot render this conversation so that training and serving agree."""


def check_messages(messages: Sequence[Message]) -> str | None:
    """The reason why this is not a conversation to learn from, or None.

    The order is: at most one system message, first; then user and assistant in turn, a user first. Behind
    an assistant's tool calls come the tools' answers and then the assistant again; calls may also be the end.
    """
    if not messages:
        return "no_messages"
    if any(message.get("role") not in (*ROLES, TOOL) for message in messages):
        return "unknown_role"
    if any(not isinstance(message.get("content"), str) for message in messages):
        return "content_not_text"
    turns = messages[1:] if messages[0]["role"] == "system" else messages
    due: tuple[str, ...] = ("user",)
    for turn in turns:
        if turn["role"] not in due:
            return "wrong_role_order"
        due = due_after(turn)
    if not any(turn["role"] == "assistant" for turn in turns):
        return "no_answer"
    return None


def due_after(turn: Message) -> tuple[str, ...]:
    """The roles that may speak next."""
    if turn["role"] == "user":
        return ("assistant",)
    if turn["role"] == TOOL:
        return (TOOL, "assistant")
    return (TOOL,) if turn.get("tool_calls") else ("user",)


def render_conversation(
    messages: Sequence[Message], tokenizer: Tokenizer, tools: Sequence[ToolDescription] = ()
) -> RenderedConversation:
    """Ids and loss mask of a whole conversation; the model learns each answer and the token that ends it.

    Tool calls are answers like any other. What the tools say is only read.

    Raises:
        TemplateError: the template rewrites earlier turns, so no prefix of this is what serving would send;
            or it leaves out the tools or the calls.
    """
    input_ids: list[int] = []
    loss_mask: list[int] = []
    for text, learned in _pieces(messages, tokenizer, tools, generate=False):
        ids = tokenizer.encode(text, add_special_tokens=False) if text else []
        input_ids += ids
        loss_mask += [int(learned)] * len(ids)
    return RenderedConversation(input_ids, loss_mask)


def render_prompt(
    messages: Sequence[Message], tokenizer: Tokenizer, tools: Sequence[ToolDescription] = ()
) -> list[int]:
    """Ids to generate the next answer from: exactly what `render_conversation` puts in front of that answer.

    Raises:
        TemplateError: as `render_conversation`.
    """
    input_ids: list[int] = []
    for text, _ in _pieces(messages, tokenizer, tools, generate=True):
        input_ids += tokenizer.encode(text, add_special_tokens=False) if text else []
    return input_ids


def _pieces(
    messages: Sequence[Message], tokenizer: Tokenizer, tools: Sequence[ToolDescription], generate: bool
) -> list[tuple[str, bool]]:
    """The rendered text, cut before and after each answer: (text, is it learned)."""
    pieces: list[tuple[str, bool]] = []
    messages = [_for_template(message) for message in messages]
    whole = _render(messages, tokenizer, tools, generate)
    _check_names(tools, whole, "the tools it is given")
    done = 0
    for position, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = _render(messages[:position], tokenizer, tools, generate=True)
        answered = _render(messages[: position + 1], tokenizer, tools, generate=False)
        if not (whole.startswith(answered) and answered.startswith(prompt) and len(prompt) >= done):
            raise TemplateError(
                "the chat template rewrites earlier turns when the conversation goes on; "
                "split it into one conversation an answer"
            )
        _check_names(message.get("tool_calls") or (), answered[len(prompt) :], "tool calls")
        end = _end_of_answer(answered, len(prompt), tokenizer)
        pieces += [(whole[done : len(prompt)], False), (whole[len(prompt) : end], True)]
        done = end
    pieces.append((whole[done:], False))
    return pieces


def _for_template(message: Message) -> Message:
    """The message as templates expect it: a call's arguments as values, also where they came as JSON.

    So both come to the same ids, in training and in serving.
    """
    if not message.get("tool_calls"):
        return message
    calls = []
    for call in message["tool_calls"]:
        function = call.get("function", {})
        try:
            arguments = json.loads(function.get("arguments") or "{}")
        except (TypeError, ValueError, RecursionError):
            arguments = function["arguments"]  # values already, or not JSON: the template sees what there is
        calls.append({**call, "function": {**function, "arguments": arguments}})
    return {**message, "tool_calls": calls}


def _check_names(functions: Sequence[dict[str, Any]], text: str, what: str) -> None:
    """A template that knows nothing of tools leaves them out in silence, and so would the model."""
    for function in functions:
        name = str(function.get("function", {}).get("name", ""))
        if name not in text and json.dumps(name)[1:-1] not in text:
            raise TemplateError(
                f"the chat template leaves out {what} ({name!r}); use a model whose template has tools, "
                "or conversations without"
            )


def _end_of_answer(text: str, start: int, tokenizer: Tokenizer) -> int:
    """Where the answer that begins at `start` ends: behind its last end-of-sequence token, if it has one."""
    mark = str(tokenizer.eos_token or "")
    found = text.rfind(mark, start) if mark else -1
    return found + len(mark) if found >= 0 else len(text)


def _render(
    messages: Sequence[Message], tokenizer: Tokenizer, tools: Sequence[ToolDescription], generate: bool
) -> str:
    if not tokenizer.chat_template:
        raise TemplateError("the tokenizer has no chat template; add one to its folder (chat_template.jinja)")
    options: dict[str, Any] = {"tools": list(tools)} if tools else {}
    try:
        text = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=generate, **options
        )
    except Exception as error:  # a template raises whatever its author chose: jinja2 errors, TypeErrors
        raise TemplateError(f"the chat template refuses this conversation: {error}") from error
    return str(text)
