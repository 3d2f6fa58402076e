"""What flows through the room: a document, or one that was dropped, with the reason."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from heliostat.text.chat import Message

READ_STEP = "read"
"""The step of rows that never became a document; they have no tokens."""


@dataclass(frozen=True)
class Document:
    """Plain text, or a conversation when there are messages.

    `source` and `row` (from 1) say where it was read; `uid` is unique in a dataset and stays the same when
    the same source is read again. A preference pair holds its prompt and the chosen answer as `messages`
    and what stands in that answer's place as `rejected`: in place of `messages[answers_from:]`, as either
    may be several turns. `tools` are the functions a conversation may call.
    """

    uid: str
    source: str
    row: int
    domain: str
    text: str = ""
    messages: tuple[Message, ...] = ()
    rejected: tuple[Message, ...] = ()
    answers_from: int = 0
    tools: tuple[dict[str, Any], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """JSON values by name: what the source said beside the content, and what each step found."""

    @property
    def contents(self) -> list[str]:
        """The text, or the text of each message, the rejected ones last."""
        if not self.messages:
            return [self.text]
        return [message["content"] for message in (*self.messages, *self.rejected)]

    @property
    def whole_text(self) -> str:
        """The text, or the texts of all messages with a blank line between them."""
        return "\n\n".join(self.contents)

    def with_contents(self, contents: list[str]) -> "Document":
        """The same document saying something else; as many texts as `contents` has."""
        if not self.messages:
            return replace(self, text=contents[0])
        turns = [
            {**message, "content": content}
            for message, content in zip((*self.messages, *self.rejected), contents, strict=True)
        ]
        cut = len(self.messages)
        return replace(self, messages=tuple(turns[:cut]), rejected=tuple(turns[cut:]))

    def with_metadata(self, name: str, value: Any) -> "Document":
        """The same document, with one more thing known about it."""
        return replace(self, metadata={**self.metadata, name: value})

    @property
    def prompt(self) -> tuple[Message, ...]:
        """What both answers of a preference pair follow."""
        return self.messages[: self.answers_from]

    def blank_reason(self) -> str | None:
        """The reason to drop a document that says nothing, or None. A call of a tool says something."""
        if not self.messages:
            return None if self.text.strip() else "empty"
        turns = (*self.messages, *self.rejected)
        if all(turn["content"].strip() or turn.get("tool_calls") for turn in turns):
            return None
        return "empty_message"


@dataclass(frozen=True)
class Dropped:
    """A document as it was when a step dropped it, and the evidence.

    `score` is the figure the step went by; `kept_uid` names the document that a duplicate repeats.
    """

    document: Document
    step: str
    reason: str
    detail: str = ""
    score: float | None = None
    kept_uid: str = ""


Outcome = Document | Dropped
