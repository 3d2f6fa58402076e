"""Reading the rows of a file: jsonl, parquet, csv and text.

A row that cannot be read comes out as `Broken`, never as an exception; a file that cannot is a DataError.
"""

import csv
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from heliostat.data.config import CsvSource, FileSource, JsonlSource, ParquetSource, TableSource, TextSource
from heliostat.data.files import FileAt, first_line, locate, opened
from heliostat.errors import DataError

HEAD_BYTES = 65536
HEAD_ROWS = 50
_SIGNATURES = {
    b"PAR1": "Parquet",
    b"\x1f\x8b": "gzip (give it the ending .gz)",
    b"PK\x03\x04": "a zip archive",
    b"%PDF": "PDF",
    b"SQLite format 3": "an SQLite database",
}


@dataclass(frozen=True)
class Broken:
    """A row that cannot be read: what there is of it, the reason's name, and what the parser said."""

    reason: str
    raw: str
    detail: str = ""


Row = dict[str, Any] | Broken


def columns_of(source: FileSource, file: FileAt) -> list[str]:
    """Open a file, see that it is what the source says, and return its columns ([] for text).

    Raises:
        DataError: it is empty, or of another format.
    """
    if file.bytes == 0:
        raise DataError(f"{file.path}: the file is empty")
    if isinstance(source, ParquetSource):
        return _parquet_columns(file)
    with opened(file) as stream:
        head = stream.read(HEAD_BYTES)
    _check_is_text(head, file, kind_of(source))
    if not head.strip():
        raise DataError(f"{file.path}: the file holds nothing but white space")
    if isinstance(source, TableSource):
        rows = [row for _, row in zip(range(HEAD_ROWS), rows_of(source, file, None), strict=False)]
        columns = {name for _, row in rows if isinstance(row, dict) for name in row}
        if not columns:
            raise DataError(f"{file.path}: {_what_it_is_not(source, head, bool(rows))}")
        return sorted(columns)
    return []


def kind_of(source: FileSource) -> str:
    """The source's tag."""
    return str(type(source).model_fields["kind"].default)


def _what_it_is_not(source: TableSource, head: bytes, has_rows: bool) -> str:
    if isinstance(source, CsvSource):
        return "a header line and no rows"
    if head.lstrip()[:1] == b"[":
        return "a JSON array, not JSON lines; write one object a line"
    return f"not JSON lines: none of its first {HEAD_ROWS} lines is a JSON object" if has_rows else "no rows"


def _check_is_text(head: bytes, file: FileAt, kind: str) -> None:
    for signature, name in _SIGNATURES.items():
        if head.startswith(signature):
            raise DataError(f"{file.path}: is {name}, not {kind}; use another 'kind' or convert the file")
    if b"\0" in head:
        raise DataError(f"{file.path}: is binary or UTF-16, not {kind} in UTF-8; convert the file")


def _parquet_columns(file: FileAt) -> list[str]:
    with _parquet(file) as table:
        if table.metadata.num_rows == 0:
            raise DataError(f"{file.path}: the table has no rows")
        return list(table.schema_arrow.names)


@contextmanager
def _parquet(file: FileAt) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    filesystem, path = locate(file)
    try:
        with filesystem.open_input_file(path) as stream:
            yield pq.ParquetFile(stream)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file.path}: cannot be read as Parquet: {first_line(error)}") from error


def rows_of(source: FileSource, file: FileAt, columns: list[str] | None) -> Iterator[tuple[int, Row]]:
    """The rows of a file with their numbers, from 1 (lines of jsonl; rows below the header of csv).

    `columns` are those a Parquet reader needs; None reads all. Blank lines are no rows.

    Raises:
        DataError: the file as a whole cannot be read.
    """
    if isinstance(source, ParquetSource):
        yield from _parquet_rows(file, columns)
    elif isinstance(source, JsonlSource):
        yield from _jsonl_rows(file)
    elif isinstance(source, CsvSource):
        yield from _csv_rows(file, source.delimiter)
    elif isinstance(source, TextSource):
        yield from _text_rows(file, source.separator)


def _jsonl_rows(file: FileAt) -> Iterator[tuple[int, Row]]:
    with opened(file) as stream:
        for number, line in enumerate(stream, start=1):
            # bytes that are not UTF-8 become lone surrogates, which the reader of the row refuses by name
            text = line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape").strip()
            if not text:
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                yield number, Broken("broken_json", text, first_line(error))
                continue
            yield number, row if isinstance(row, dict) else Broken("not_an_object", text)


def _csv_rows(file: FileAt, delimiter: str) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(sys.maxsize)  # its default of 128 KiB is below many a document
    with opened(file) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        records = (record for record in csv.reader(text, delimiter=delimiter) if record)
        try:
            header = next(records, [])
            for number, record in enumerate(records, start=1):
                if len(record) == len(header):
                    yield number, dict(zip(header, record, strict=True))
                else:
                    detail = f"{len(record)} fields, the header has {len(header)}"
                    yield number, Broken("wrong_number_of_fields", delimiter.join(record), detail)
        except csv.Error as error:
            raise DataError(f"{file.path}: cannot be read as csv: {error}") from error
        finally:
            text.detach()  # or it closes the stream a second time


def _text_rows(file: FileAt, separator: str | None) -> Iterator[tuple[int, Row]]:
    with opened(file) as stream:
        text = stream.read().decode("utf-8-sig", "surrogateescape")
    pieces = text.split(separator) if separator else [text]
    for number, piece in enumerate(pieces, start=1):
        yield number, {"text": piece}


def _parquet_rows(file: FileAt, columns: list[str] | None) -> Iterator[tuple[int, Row]]:
    with _parquet(file) as table:
        there = set(table.schema_arrow.names)
        wanted = [column for column in columns if column in there] if columns else None
        number = 0
        for batch in table.iter_batches(batch_size=1024, columns=wanted):
            for row in batch.to_pylist():
                number += 1
                yield number, row
