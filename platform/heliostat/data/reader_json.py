"""Rows of a JSON document, streamed: an array of objects, or an object that holds one.

The text is taken in pieces of a megabyte and parsed value by value with the standard library's scanner, so
memory holds one row and one piece.
"""

import codecs
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from heliostat.data.reader_rows import MAX_ROW_BYTES, Broken, NumberedRow
from heliostat.errors import DataError

_PIECE_BYTES = 2**20
_BLANK = re.compile(r"[ \t\n\r]*")
_LIST_OF_OBJECTS = re.compile(r"\[[ \t\n\r]*\{")
_LIST_CUT_OFF = re.compile(r"\[[ \t\n\r]*\Z")
# How far in front of the end of what was read an error may be that more text would mend: `tru`, `\ud83d\u`.
_UNFINISHED_CHARACTERS = 16


def json_rows(
    stream: io.BufferedReader, key: str | None, row_keys: frozenset[str], where: str
) -> Iterator[NumberedRow]:
    """The objects of the array, from 1. An object without a list of objects is one row itself.

    `key` names the list in an object. `row_keys` are the names of columns that hold lists of objects in a
    row, such as `messages`: an object with such a list is a row, and not a file of rows.

    Raises:
        DataError: this is not JSON, is cut off, is JSON lines, or has several lists to choose from.
    """
    text = _Text(stream, where)
    first = text.peek()
    if first == "[":
        yield from _array(text)
    elif first == "{":
        yield from _object(text, key, row_keys)
    else:
        raise DataError(f"{where}: neither an array nor an object of JSON; see its first characters")
    if text.peek():
        hint = "JSON lines; use 'kind: jsonl'" if text.peek() == "{" else "more than one JSON value"
        raise DataError(f"{where}: {hint}")


def _array(text: "_Text") -> Iterator[NumberedRow]:
    text.take("[")
    number = 0
    while text.peek() != "]":
        if number:
            text.take(",")
        number += 1
        value = text.value()
        if isinstance(value, dict):
            yield number, value
        else:
            yield number, Broken("not_an_object", json.dumps(value, ensure_ascii=False))
    text.take("]")


def _object(text: "_Text", key: str | None, row_keys: frozenset[str]) -> Iterator[NumberedRow]:
    pairs: dict[str, Any] = {}
    listed: str | None = None
    text.take("{")
    while text.peek() != "}":
        if pairs:
            text.take(",")
        name = text.value()
        text.take(":")
        is_list = text.at_list_of_objects()
        if is_list and listed is None and (name == key if key else name not in row_keys):
            listed, pairs[name] = name, None
            yield from _array(text)
            continue
        pairs[name] = text.value()
        if is_list and listed and not key and name not in row_keys:
            raise DataError(
                f"{text.where}: holds lists of objects under '{listed}' and '{name}'; "
                f"say which with 'key: {listed}'"
            )
    text.take("}")
    if listed is None and key:
        raise DataError(f"{text.where}: no list of objects under '{key}'; its keys: {', '.join(pairs)}")
    if listed is None:
        yield 1, pairs


class _Text:
    """A window on a stream of JSON text, and where in it the parser is."""

    def __init__(self, stream: io.BufferedReader, where: str) -> None:
        self.where = where
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._json = json.JSONDecoder()
        self._window = ""
        self._at = 0
        self._dropped = 0  # characters in front of the window
        self._ended = False

    def peek(self) -> str:
        """The next character that is not blank, or "" at the end."""
        while True:
            blank = _BLANK.match(self._window, self._at)
            self._at = blank.end() if blank else self._at
            if self._at < len(self._window):
                return self._window[self._at]
            if not self._more():
                return ""

    def take(self, character: str) -> None:
        """Step over a character that has to come next."""
        found = self.peek()
        if found != character:
            raise self._problem(
                f"expected '{character}', found '{found}'" if found else "the file is cut off"
            )
        self._at += 1

    def at_list_of_objects(self) -> bool:
        """Whether a list comes next whose first entry is an object."""
        self.peek()
        while _LIST_CUT_OFF.match(self._window, self._at) and self._more():
            pass
        return _LIST_OF_OBJECTS.match(self._window, self._at) is not None

    def value(self) -> Any:
        """The next value."""
        self.peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._window, self._at)
            except json.JSONDecodeError as error:
                if not self._is_unfinished(error):
                    raise self._problem(error.msg) from None
                if not self._more():
                    raise self._problem("the file is cut off") from None
                continue
            except RecursionError:
                raise self._problem("nested too deeply") from None
            if end < len(self._window) or not self._more():  # a number may go on
                self._at = end
                return value

    def _is_unfinished(self, error: json.JSONDecodeError) -> bool:
        """Whether more text could mend what the parser complains about."""
        if len(self._window) - self._at > MAX_ROW_BYTES:
            return False
        return error.msg.startswith("Unterminated string") or (
            error.pos >= len(self._window) - _UNFINISHED_CHARACTERS
        )

    def _more(self) -> bool:
        """Widen the window, by as much as it holds at least: a long value is not parsed again and again."""
        if self._ended:
            return False
        rest = self._window[self._at :]
        self._dropped += self._at
        raw = self._stream.read(max(_PIECE_BYTES, len(rest)))
        self._ended = not raw
        self._window, self._at = rest + self._decoder.decode(raw, final=self._ended), 0
        return True

    def _problem(self, what: str) -> DataError:
        return DataError(f"{self.where}: not valid JSON behind character {self._dropped + self._at}: {what}")
