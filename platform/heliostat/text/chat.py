"""Chat rendering: the one way in which training, evaluation and serving turn messages into token ids.

A conversation is cut where the model starts and stops speaking, and each piece is tokenized by itself.
So the ids in front of an answer are the same whether the answer is already there (training) or is about to
be written (serving), even where a tokenizer would merge characters across that border.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

ROLES = ("system", "user", "assistant")


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that rendering needs."""

    chat_template: Any
    eos_token: Any

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Render messages to text."""

    def encode(self, text: str, **options: Any) -> list[int]:
        """Turn text into ids."""


Message = dict[str, str]


@dataclass(frozen=True)
class RenderedConversation:
    """Token ids and, for each, whether the model is to learn it (1) or only to read it (0)."""

    input_ids: list[int]
    loss_mask: list[int]


class TemplateError(ValueError):
    """The chat template cannot render this conversation so that training and serving agree."""


def check_messages(messages: Sequence[Message]) -> str | None:
    """The reason why this is not a conversation to learn from, or None.

    The order is: at most one system message, first; then user and assistant in turn, a user first.
    """
    if not messages:
        return "no_messages"
    if any(message.get("role") not in ROLES for message in messages):
        return "unknown_role"
    if any(not isinstance(message.get("content"), str) for message in messages):
        return "content_not_text"
    turns = [message["role"] for message in messages]
    if turns[0] == "system":
        turns = turns[1:]
    expected = ["user", "assistant"] * (len(turns) // 2 + 1)
    if turns != expected[: len(turns)]:
        return "wrong_role_order"
    if "assistant" not in turns:
        return "no_answer"
    return None


def render_conversation(messages: Sequence[Message], tokenizer: Tokenizer) -> RenderedConversation:
    """Ids and loss mask of a whole conversation; the model learns each answer and the token that ends it.

    Raises:
        TemplateError: the template rewrites earlier turns, so no prefix of this is what serving would send.
    """
    input_ids: list[int] = []
    loss_mask: list[int] = []
    for text, learned in _pieces(messages, tokenizer, generate=False):
        ids = tokenizer.encode(text, add_special_tokens=False) if text else []
        input_ids += ids
        loss_mask += [int(learned)] * len(ids)
    return RenderedConversation(input_ids, loss_mask)


def render_prompt(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """Ids to generate the next answer from: exactly what `render_conversation` puts in front of that answer.

    Raises:
        TemplateError: as `render_conversation`.
    """
    input_ids: list[int] = []
    for text, _ in _pieces(messages, tokenizer, generate=True):
        input_ids += tokenizer.encode(text, add_special_tokens=False) if text else []
    return input_ids


def _pieces(messages: Sequence[Message], tokenizer: Tokenizer, generate: bool) -> list[tuple[str, bool]]:
    """The rendered text, cut before and after each answer: (text, is it learned)."""
    pieces: list[tuple[str, bool]] = []
    whole = _render(messages, tokenizer, generate)
    done = 0
    for position, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = _render(messages[:position], tokenizer, generate=True)
        answered = _render(messages[: position + 1], tokenizer, generate=False)
        if not (whole.startswith(answered) and answered.startswith(prompt) and len(prompt) >= done):
            raise TemplateError(
                "the chat template rewrites earlier turns when the conversation goes on; "
                "split it into one conversation an answer"
            )
        end = _end_of_answer(answered, len(prompt), tokenizer)
        pieces += [(whole[done : len(prompt)], False), (whole[len(prompt) : end], True)]
        done = end
    pieces.append((whole[done:], False))
    return pieces


def _end_of_answer(text: str, start: int, tokenizer: Tokenizer) -> int:
    """Where the answer that begins at `start` ends: behind its last end-of-sequence token, if it has one."""
    mark = str(tokenizer.eos_token or "")
    found = text.rfind(mark, start) if mark else -1
    return found + len(mark) if found >= 0 else len(text)


def _render(messages: Sequence[Message], tokenizer: Tokenizer, generate: bool) -> str:
    if not tokenizer.chat_template:
        raise TemplateError("the tokenizer has no chat template; add one to its folder (chat_template.jinja)")
    try:
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=generate)
    except Exception as error:  # a template raises whatever its author chose: jinja2 errors, TypeErrors
        raise TemplateError(f"the chat template refuses this conversation: {error}") from error
    return str(text)
