"""Documents as Parquet rows, on their way and when they are published."""

from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from heliostat.data.documents import Document, Dropped, Outcome

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.large_string())]))
_IDENTITY = [("uid", pa.string()), ("source", pa.string()), ("row", pa.int64()), ("domain", pa.string())]
_CONTENT = [("text", pa.large_string()), ("messages", _MESSAGES)]
_FATE = [("step", pa.string()), ("reason", pa.string()), ("detail", pa.string())]

DOCUMENT_SCHEMA = pa.schema([*_IDENTITY, *_CONTENT])
DROPPED_SCHEMA = pa.schema([*_IDENTITY, *_FATE, *_CONTENT])
ROWS_PER_GROUP = 1024


def outcomes_of(table: pa.Table) -> Iterator[Outcome]:
    """The rows of a table of DOCUMENT_SCHEMA or DROPPED_SCHEMA (more columns do not matter)."""
    for row in table.to_pylist():
        document = Document(
            uid=row["uid"],
            source=row["source"],
            row=row["row"],
            domain=row["domain"],
            text=row["text"] or "",
            messages=tuple(row["messages"] or ()),
        )
        if row.get("step"):
            yield Dropped(document, row["step"], row["reason"], row["detail"] or "")
        else:
            yield document


def parquet_bytes(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> bytes:
    """The rows as the bytes of a Parquet file; the same rows give the same bytes."""
    sink = BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), sink, row_group_size=ROWS_PER_GROUP)
    return sink.getvalue()
