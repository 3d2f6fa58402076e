"""Documents as Arrow tables: on their way through the stage, and when they are published.

On their way they lie in Arrow's own file format, uncompressed: a local file is mapped and not read, so that
single documents can be fetched by position. Published they are Parquet.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from heliostat.data.documents import Document, Dropped
from heliostat.storage import Storage
from heliostat.text.chat import Message

# Other keys of a message (tool_calls, tool_call_id, name) are kept as one JSON object: their shapes differ.
_MESSAGES = pa.list_(
    pa.struct([("role", pa.string()), ("content", pa.large_string()), ("more", pa.string())])
)
_IDENTITY = [("uid", pa.string()), ("source", pa.string()), ("row", pa.int64()), ("domain", pa.string())]
_FATE = [
    ("step", pa.string()),
    ("reason", pa.string()),
    ("score", pa.float64()),
    ("kept_uid", pa.string()),
    ("detail", pa.string()),
]
_CONTENT = [
    ("text", pa.large_string()),
    ("messages", _MESSAGES),
    ("rejected", _MESSAGES),
    ("answers_from", pa.int32()),
    ("tools", pa.string()),
    ("metadata", pa.string()),
]

DOCUMENT_SCHEMA = pa.schema([*_IDENTITY, *_CONTENT])
DROPPED_SCHEMA = pa.schema([*_IDENTITY, *_FATE, *_CONTENT])
FATE_COLUMNS = [name for name, _ in _FATE]
ROWS_PER_GROUP = 1024
ROWS_PER_BATCH = 256
"""Documents handled together; what is in memory as Python objects at a time."""


def table_of(documents: Sequence[Document]) -> pa.Table:
    """The documents as a table of DOCUMENT_SCHEMA."""
    columns: list[list[Any]] = [
        [document.uid for document in documents],
        [document.source for document in documents],
        [document.row for document in documents],
        [document.domain for document in documents],
        [None if document.messages else document.text for document in documents],
        [_packed(document.messages) for document in documents],
        [_packed(document.rejected) for document in documents],
        [document.answers_from for document in documents],
        [_json(document.tools) for document in documents],
        [_json(document.metadata) for document in documents],
    ]
    arrays = [
        pa.array(values, type=field.type) for values, field in zip(columns, DOCUMENT_SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=DOCUMENT_SCHEMA)


def dropped_table(dropped: Sequence[Dropped]) -> pa.Table:
    """The dropped documents as a table of DROPPED_SCHEMA."""
    fates: dict[str, list[Any]] = {
        "step": [each.step for each in dropped],
        "reason": [each.reason for each in dropped],
        "score": [each.score for each in dropped],
        "kept_uid": [each.kept_uid or None for each in dropped],
        "detail": [each.detail or None for each in dropped],
    }
    return with_fates(table_of([each.document for each in dropped]), fates)


def with_fates(documents: pa.Table, fates: dict[str, list[Any]]) -> pa.Table:
    """A table of documents with the columns that say why each was dropped."""
    for name, values in fates.items():
        documents = documents.append_column(name, pa.array(values, type=DROPPED_SCHEMA.field(name).type))
    return documents.select(DROPPED_SCHEMA.names)


def documents_of(table: pa.Table | pa.RecordBatch) -> list[Document]:
    """The rows of a table that has at least the columns of DOCUMENT_SCHEMA."""
    columns = [_values(table, name) for name in DOCUMENT_SCHEMA.names]
    return [
        Document(
            uid=uid,
            source=source,
            row=row,
            domain=domain,
            text=text or "",
            messages=_unpacked(messages),
            rejected=_unpacked(rejected),
            answers_from=answers_from or 0,
            tools=tuple(json.loads(tools)) if tools else (),
            metadata=json.loads(metadata) if metadata else {},
        )
        for (uid, source, row, domain, text, messages, rejected, answers_from, tools, metadata) in zip(
            *columns, strict=True
        )
    ]


def _values(table: pa.Table | pa.RecordBatch, name: str) -> list[Any]:
    """A column; of `answers_from`, which older datasets have not, nothing."""
    return table[name].to_pylist() if name in table.schema.names else [None] * table.num_rows


def parquet_bytes(table: pa.Table) -> bytes:
    """The table as the bytes of a Parquet file; the same rows give the same bytes."""
    sink = BytesIO()
    pq.write_table(table.combine_chunks(), sink, row_group_size=ROWS_PER_GROUP, compression="zstd")
    return sink.getvalue()


def arrow_bytes(table: pa.Table) -> pa.Buffer:
    """The table as the bytes of an Arrow file."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks(), max_chunksize=ROWS_PER_BATCH)
    return sink.getvalue()


@contextmanager
def open_shard(scratch: Storage, name: str) -> Iterator[pa.ipc.RecordBatchFileReader]:
    """An Arrow file to read batch by batch; a local one is mapped."""
    with scratch.open_file(name) as stream, pa.ipc.open_file(stream) as reader:
        yield reader


def documents_at(reader: pa.ipc.RecordBatchFileReader, rows: Sequence[int] | np.ndarray) -> list[Document]:
    """The documents at some rows of a shard, in the order given; only their batches are read."""
    wanted = np.asarray(rows, dtype=np.int64)
    found = np.empty(len(wanted), dtype=object)
    for number in np.unique(wanted // ROWS_PER_BATCH).tolist():
        here = np.flatnonzero(wanted // ROWS_PER_BATCH == number)
        batch = reader.get_batch(number).take(pa.array(wanted[here] % ROWS_PER_BATCH))
        found[here] = documents_of(batch)
    return list(found)


def _packed(messages: Sequence[Message]) -> list[dict[str, Any]] | None:
    """The messages as the struct that the schema has."""
    return [
        {
            "role": message["role"],
            "content": message["content"],
            "more": _json({key: value for key, value in message.items() if key not in ("role", "content")}),
        }
        for message in messages
    ] or None


def _unpacked(messages: list[dict[str, Any]] | None) -> tuple[Message, ...]:
    return tuple(
        {"role": each["role"], "content": each["content"]}
        | (json.loads(each["more"]) if each["more"] else {})
        for each in messages or ()
    )


def _json(value: Any) -> str | None:
    """The value as JSON, or None for one that says nothing."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if value else None
