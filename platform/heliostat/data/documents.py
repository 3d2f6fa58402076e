"""What flows through the room: a document, or one that was dropped, with the reason."""

from dataclasses import dataclass, replace
from typing import Any

from heliostat.text.chat import Message

READ_STEP = "read"
"""The step of rows that never became a document; they have no tokens."""


@dataclass(frozen=True)
class Document:
    """Plain text, or a conversation when there are messages.

    `source` and `row` (from 1) say where it was read; `uid` is unique in a dataset and stays the same when
    the same source is read again.
    """

    uid: str
    source: str
    row: int
    domain: str
    text: str = ""
    messages: tuple[Message, ...] = ()

    @property
    def contents(self) -> list[str]:
        """The text, or the text of each message."""
        return [message["content"] for message in self.messages] if self.messages else [self.text]

    def with_contents(self, contents: list[str]) -> "Document":
        """The same document saying something else."""
        if not self.messages:
            return replace(self, text=contents[0])
        pairs = zip(self.messages, contents, strict=True)
        return replace(self, messages=tuple({**message, "content": content} for message, content in pairs))

    def blank_reason(self) -> str | None:
        """The reason to drop a document that says nothing, or None."""
        if all(content.strip() for content in self.contents):
            return None
        return "empty_message" if self.messages else "empty"

    def row_values(self) -> dict[str, Any]:
        """The document as a row of `shards.DOCUMENT_SCHEMA`."""
        return {
            "uid": self.uid,
            "source": self.source,
            "row": self.row,
            "domain": self.domain,
            "text": None if self.messages else self.text,
            "messages": list(self.messages) or None,
        }


@dataclass(frozen=True)
class Dropped:
    """A document as it was when a step dropped it, the reason's name, and what more is known."""

    document: Document
    step: str
    reason: str
    detail: str = ""

    def row_values(self) -> dict[str, Any]:
        """The dropped document as a row of `shards.DROPPED_SCHEMA`."""
        fate = {"step": self.step, "reason": self.reason, "detail": self.detail or None}
        return self.document.row_values() | fate


Outcome = Document | Dropped
