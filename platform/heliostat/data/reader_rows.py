"""What a reader makes of a file: rows with their numbers. A row that cannot be read is one too."""

from dataclasses import dataclass
from typing import Any

MAX_ROW_BYTES = 2**28
"""A longer line, cell or page is not read: it is no document, and it would not fit into a task's memory."""
EXCERPT_CHARACTERS = 1000
"""What is kept of a row that is too long to be read."""


@dataclass(frozen=True)
class Broken:
    """A row that cannot be read: what there is of it, the reason's name, and what the parser said."""

    reason: str
    raw: str
    detail: str = ""


Row = dict[str, Any] | Broken
NumberedRow = tuple[int, Row]
"""From 1: lines of jsonl, rows below the header of csv, pieces of a text, pages of an archive."""


def text_of(raw: bytes) -> str:
    """The bytes as text. What is not UTF-8 becomes lone surrogates, which are refused by name further on."""
    return raw.decode("utf-8", "surrogateescape")
