"""Rows of a Parquet file, by row groups, a batch at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from heliostat.data.files import FileAt, explain_reading, first_line, located
from heliostat.data.reader_rows import Broken, NumberedRow, Row
from heliostat.data.source_scan import Part
from heliostat.errors import DataError
from heliostat.storage import is_remote

ROWS_PER_BATCH = 1024
BYTES_PER_BATCH = 8 * 2**20


@dataclass(frozen=True)
class TableFacts:
    """What a file's metadata say: how many rows it has, and the types of its columns as Arrow names them."""

    rows: int
    types: dict[str, str]


def parquet_facts(file: FileAt) -> TableFacts:
    """Read a file's metadata.

    Raises:
        DataError: it is not Parquet, or has no rows.
    """
    with _opened(file) as table:
        if table.metadata.num_rows == 0:
            raise DataError(f"{file.path}: the table has no rows")
        types = {field.name: str(field.type) for field in table.schema_arrow}
        return TableFacts(int(table.metadata.num_rows), types)


def parquet_parts(file: FileAt, part_bytes: int) -> list[Part]:
    """The file cut at row groups, into parts of `part_bytes` of the file at least (but the last).

    Only metadata are read, on an object store too.

    Raises:
        DataError: it is not Parquet.
    """
    with _opened(file) as table:
        groups = [table.metadata.row_group(number) for number in range(table.metadata.num_row_groups)]
        sizes = [(group.num_rows, group.total_byte_size) for group in groups]
    share = file.bytes / max(1, sum(size for _, size in sizes))  # sizes are before compression
    parts: list[Part] = []
    start, row, weight = 0, 1, 0.0
    for end, (_, size) in enumerate(sizes, start=1):
        weight += size * share
        if weight >= part_bytes or end == len(sizes):
            parts.append(Part(start, end, row, int(weight)))
            row += sum(rows for rows, _ in sizes[start:end])
            start, weight = end, 0.0
    return parts


def parquet_rows(file: FileAt, columns: list[str] | None, part: Part | None) -> Iterator[NumberedRow]:
    """The rows of a part (None: of the file), with their numbers in the file.

    Of nested values only the keys that are not null are kept: Parquet gives every struct of a column the keys
    of all.

    Raises:
        DataError: it is not Parquet, or cut off.
    """
    with _opened(file) as table:
        there = table.schema_arrow.names
        wanted = [column for column in there if columns is None or column in columns]
        if len(set(there)) < len(there):
            raise DataError(f"{file.path}: has a column name twice; rename one of them")
        nested = {name for name in wanted if _depth(table.schema_arrow.field(name).type) > 1}
        groups = range(part.start, part.end) if part else range(table.metadata.num_row_groups)
        number = part.first_row if part else 1
        for group in groups:
            for batch in table.iter_batches(_batch_rows(table, group), row_groups=[group], columns=wanted):
                yield from enumerate(_rows(batch, nested), start=number)
                number += batch.num_rows


def _batch_rows(table: Any, number: int) -> int:
    """As many rows as a batch may have of a row group, so that long documents come one by one."""
    group = table.metadata.row_group(number)
    fitting = BYTES_PER_BATCH * int(group.num_rows) // max(1, int(group.total_byte_size))
    return max(1, min(ROWS_PER_BATCH, fitting))


def _rows(batch: Any, nested: set[str]) -> Iterator[Row]:
    names = batch.schema.names
    try:
        columns = [batch.column(name).to_pylist() for name in names]
    except UnicodeDecodeError:
        for position in range(batch.num_rows):
            yield _row_with_bad_text(batch, position)
        return
    for name, values in zip(names, columns, strict=True):
        if name in nested:
            values[:] = map(_without_nulls, values)
    if not names:
        yield from ({} for _ in range(batch.num_rows))
    for row in zip(*columns, strict=True):
        yield dict(zip(names, row, strict=True))


def _row_with_bad_text(batch: Any, position: int) -> Row:
    """A row of a batch in which some text is not UTF-8; this one's may be."""
    row = {}
    for name in batch.schema.names:
        try:
            row[name] = _without_nulls(batch.column(name)[position].as_py())
        except UnicodeDecodeError as error:
            return Broken("not_unicode", "", f"column '{name}': {first_line(error)}")
    return row


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value


def _depth(kind: Any) -> int:
    """How many structs lie in each other."""
    import pyarrow.types as types

    if types.is_struct(kind):
        return 1 + max((_depth(kind.field(position).type) for position in range(kind.num_fields)), default=0)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _depth(kind.value_type)
    return 0


@contextmanager
def _opened(file: FileAt) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        filesystem, path = located(file)
        with filesystem.open_input_file(path) as stream:
            if is_remote(file.path):
                yield pq.ParquetFile(stream, pre_buffer=True)
            else:
                yield pq.ParquetFile(stream, buffer_size=2**20)
    except (FileNotFoundError, PermissionError) as error:
        raise DataError(f"{file.path}: {explain_reading(error)}") from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file.path}: cannot be read as Parquet: {first_line(error)}") from error
