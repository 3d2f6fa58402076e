"""Reading the rows of a file, in constant memory: jsonl, csv and text; other formats have their own modules.

A row that cannot be read comes out as `Broken`, never as an exception; a file that cannot is a DataError.
"""

import csv
import io
import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import orjson

from heliostat.data.files import FileAt, first_line, opened
from heliostat.data.reader_json import json_rows
from heliostat.data.reader_parquet import parquet_rows
from heliostat.data.reader_rows import EXCERPT_CHARACTERS, MAX_ROW_BYTES, Broken, NumberedRow, Row, text_of
from heliostat.data.source_config import (
    REQUIRED_COLUMNS,
    CsvSource,
    FileSource,
    HtmlSource,
    JsonlSource,
    JsonSource,
    ParquetSource,
    TextSource,
    WarcSource,
)
from heliostat.data.source_scan import BLOCK_BYTES, NEWLINE, Part
from heliostat.data.web import html_rows, warc_rows
from heliostat.errors import DataError

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
DELIMITERS = ",\t;|"
"""What may stand between the fields of a csv file."""
# Columns that hold lists of objects in a row: an object of JSON with one is a row, not a file of rows.
_LIST_COLUMNS = frozenset(
    {
        "prompt",
        "system",
        "tools",
        "functions",
        *(name for names in REQUIRED_COLUMNS.values() for name in names),
    }
)


def rows_of(
    source: FileSource, file: FileAt, columns: list[str] | None = None, part: Part | None = None
) -> Iterator[NumberedRow]:
    """The rows of a file or of a part of it, with their numbers. Blank lines are no rows.

    `columns` are those a Parquet reader needs; None reads all.

    Raises:
        DataError: the file as a whole cannot be read.
    """
    if isinstance(source, ParquetSource):
        yield from parquet_rows(file, columns, part)
        return
    with opened(file) as stream:
        yield from rows_in(source, file, stream, part)


def rows_in(
    source: FileSource, file: FileAt, stream: io.BufferedReader, part: Part | None = None
) -> Iterator[NumberedRow]:
    """As `rows_of`, of any file but Parquet that is open already.

    Raises:
        DataError: as `rows_of`.
    """
    if isinstance(source, JsonlSource):
        return _jsonl_rows(stream, part)
    if isinstance(source, JsonSource):
        mapped = {name for name in source.columns.values() if isinstance(name, str)}
        return json_rows(stream, source.key, _LIST_COLUMNS | mapped, file.path)
    if isinstance(source, CsvSource):
        return _csv_rows(stream, source.delimiter, file)
    if isinstance(source, HtmlSource):
        return html_rows(stream)
    if isinstance(source, WarcSource):
        return warc_rows(stream, file.path)
    assert isinstance(source, TextSource)
    return _text_rows(stream, source.separator, part, file)


_BLANK = object()
"""A line without a row. Not None: that is the row `null`, which is counted as one that is no object."""


def _jsonl_rows(stream: io.BufferedReader, part: Part | None) -> Iterator[NumberedRow]:
    number, left = 1, -1
    if part:
        stream.seek(part.start)
        number, left = part.first_row, part.bytes
    read_line = partial(stream.readline, MAX_ROW_BYTES)
    while left and (line := read_line()):
        left -= len(line)
        row: Any
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            row = _patient_row(line, number)
        if row is not _BLANK:
            yield (
                number,
                row if isinstance(row, (dict, Broken)) else Broken("not_an_object", text_of(line).strip()),
            )
        if len(line) == MAX_ROW_BYTES and line[-1:] != NEWLINE:
            left -= _skip_line(read_line)
        number += 1


def _patient_row(line: bytes, number: int) -> Any:
    """A line that the fast parser refuses: blank (_BLANK), broken, or JSON as the standard library reads it.

    That is: with NaN, halves of surrogate pairs, bytes that are not UTF-8, a byte order mark.
    """
    if len(line) == MAX_ROW_BYTES and line[-1:] != NEWLINE:
        return _too_large(line)
    text = text_of(line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line).strip()
    if not text:
        return _BLANK
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return Broken("broken_json", text, first_line(error))


def _too_large(raw: bytes) -> Broken:
    return Broken("row_too_large", text_of(raw[:EXCERPT_CHARACTERS]), f"more than {MAX_ROW_BYTES} bytes")


def _skip_line(read_line: Any) -> int:
    """Read on to the end of the line; returns how many bytes that were."""
    skipped = 0
    while line := read_line():
        skipped += len(line)
        if line[-1:] == NEWLINE:
            break
    return skipped


def _csv_rows(stream: io.BufferedReader, delimiter: str | None, file: FileAt) -> Iterator[NumberedRow]:
    csv.field_size_limit(MAX_ROW_BYTES)  # its default of 128 KiB is below many a document
    delimiter = delimiter or _delimiter_of(text_of(stream.peek(1).partition(NEWLINE)[0]), file)
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    lines = _Lines(text)
    records = csv.reader(iter(lines), delimiter=delimiter)
    number, line, header = 0, 1, None
    try:
        for record in records:
            started, line = line, records.line_num + 1
            if header is None:
                header = _checked_header(record, file) if record else None
            elif record:
                number += 1
                if lines.ended:
                    detail = f"opened in line {started} and never closed; the rows behind it are part of it"
                    yield number, Broken("unclosed_quote", delimiter.join(record), detail)
                elif len(record) != len(header):
                    detail = f"{len(record)} fields, the header has {len(header)}"
                    yield number, Broken("wrong_number_of_fields", delimiter.join(record), detail)
                else:
                    yield number, dict(zip(header, record, strict=True))
    except csv.Error as error:
        raise DataError(f"{file.path}: cannot be read as csv behind row {number}: {error}") from error
    finally:
        if not stream.closed:
            text.detach()  # or it closes the stream a second time


class _Lines:
    """The lines of a file, and whether one more was asked for than there are: that happens inside a record,
    and then only where a quote was opened and not closed."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self.ended = False

    def __iter__(self) -> Iterator[str]:
        for line in self._text:  # noqa: UP028 - `yield from` closes the file when the reader stops early
            yield line
        self.ended = True


def _delimiter_of(header: str, file: FileAt) -> str:
    if ".tsv" in file.name.lower():
        return "\t"
    return max(DELIMITERS, key=header.count)


def _checked_header(header: list[str], file: FileAt) -> list[str]:
    twice = [name for position, name in enumerate(header) if name in header[:position]]
    if twice:
        raise DataError(f"{file.path}: the header names column '{twice[0]}' twice; rename one of them")
    return header


def _text_rows(
    stream: io.BufferedReader, separator: str | None, part: Part | None, file: FileAt
) -> Iterator[NumberedRow]:
    if separator is None:
        yield 1, _text_row(stream.read(MAX_ROW_BYTES + 1), is_first=True)
        return
    start, end, number = (part.start, part.end, part.first_row) if part else (0, -1, 1)
    if start:
        stream.seek(start)
    for piece, is_last in _pieces(stream, separator.encode(), end - start if part else None):
        if is_last and part and end < file.bytes:
            return  # the part ends behind a separator: nothing is left of it
        yield number, _text_row(piece, is_first=number == 1)
        number += 1


def _text_row(raw: bytes, is_first: bool) -> Row:
    """The row of a text, of which a byte more than MAX_ROW_BYTES was read when it is too large."""
    text = raw.removeprefix(_BYTE_ORDER_MARK) if is_first else raw
    return {"text": text_of(text)} if len(raw) <= MAX_ROW_BYTES else _too_large(text)


def _pieces(stream: io.BufferedReader, mark: bytes, left: int | None) -> Iterator[tuple[bytes, bool]]:
    """What stands between the marks in the next `left` bytes, and whether it is the last piece.

    Of a piece that is too large, as when the mark never comes, there is a byte more than MAX_ROW_BYTES.
    """
    open_piece: list[bytes] = []
    size, carry = 0, b""
    while block := stream.read(BLOCK_BYTES if left is None else min(BLOCK_BYTES, left)):
        left = left - len(block) if left is not None else None
        first, *others = (carry + block).split(mark)
        for piece in others:
            yield b"".join([*open_piece, first])[: MAX_ROW_BYTES + 1], False
            open_piece, size, first = [], 0, piece
        cut = max(0, len(first) - len(mark) + 1)  # a mark may begin in what is behind
        if size <= MAX_ROW_BYTES:  # else its end is searched, and nothing more of it is kept
            open_piece.append(first[:cut])
            size += cut
        carry = first[cut:]
    yield b"".join([*open_piece, carry])[: MAX_ROW_BYTES + 1], True
