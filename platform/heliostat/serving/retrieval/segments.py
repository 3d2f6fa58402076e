"""How a collection lies on disk: a manifest, segments of documents, and an index of their vectors.

    collections/TENANT/NAME/collection.json        which files count, with their hashes; replaced atomically
                            segment-000007.parquet documents added by one call, and ids that it removed
                            index-000007.usearch   an index of vectors; may be older than the segments

Segments are read in order: each takes away what it removes or replaces, then adds its own. The index can be
made from them at any time, so that one that is missing, damaged or old costs time and nothing else.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from heliostat.errors import StorageError
from heliostat.records import first_problem
from heliostat.storage import Storage

MANIFEST = "collection.json"


class FileHash(BaseModel):
    """A file of a collection and its content's SHA-256 in hex."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^(segment|index)-\d{6,}\.(parquet|usearch)$")
    sha256: str


class Manifest(BaseModel):
    """What a collection is made of; a new one has a higher generation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    embedder: str
    dimensions: int = Field(ge=1)
    generation: int = Field(ge=0)
    next_key: int = Field(ge=0)
    segments: tuple[FileHash, ...] = ()
    index: FileHash | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A row: which document it is of, where it lies in that, and its vector (float16, length 1)."""

    key: int
    document_id: str
    number: int
    start: int
    end: int
    text: str
    metadata: str
    vector: np.ndarray


@dataclass(frozen=True)
class Segment:
    """A change: document ids that go, and the chunks of documents that come."""

    removed: tuple[str, ...] = ()
    chunks: tuple[Chunk, ...] = field(default=())


def read_manifest(storage: Storage, folder: str) -> Manifest | None:
    """A collection's manifest; None when there is no such collection.

    Raises:
        StorageError: it cannot be read.
    """
    path = f"{folder}/{MANIFEST}"
    if not storage.exists(path):
        return None
    try:
        return Manifest.model_validate_json(storage.read_bytes(path))
    except ValidationError as error:
        raise StorageError(
            f"{storage.uri(path)}: not a collection of this version: {first_problem(error)}"
        ) from None


def write_manifest(storage: Storage, folder: str, manifest: Manifest) -> None:
    """From here on the collection is what the manifest says."""
    storage.write_bytes(f"{folder}/{MANIFEST}", manifest.model_dump_json(indent=1).encode())


def write_file(storage: Storage, folder: str, name: str, content: bytes | bytearray) -> FileHash:
    """Write a file that a manifest will name."""
    storage.write_bytes(f"{folder}/{name}", content)
    return FileHash(name=name, sha256=hashlib.sha256(content).hexdigest())


def read_file(storage: Storage, folder: str, file: FileHash) -> bytes:
    """The content of a file that a manifest names.

    Raises:
        StorageError: it is missing or another than it was.
    """
    content = storage.read_bytes(f"{folder}/{file.name}")
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise StorageError(
            f"{storage.uri(f'{folder}/{file.name}')}: damaged; restore it, "
            "or delete the collection and add its documents again"
        )
    return content


def encode_segment(segment: Segment, dimensions: int) -> bytes:
    """A segment as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    chunks = segment.chunks
    columns = {
        "key": pa.array([chunk.key for chunk in chunks], pa.uint64()),
        "document_id": pa.array([chunk.document_id for chunk in chunks], pa.string()),
        "number": pa.array([chunk.number for chunk in chunks], pa.uint32()),
        "start": pa.array([chunk.start for chunk in chunks], pa.uint32()),
        "end": pa.array([chunk.end for chunk in chunks], pa.uint32()),
        "text": pa.array([chunk.text for chunk in chunks], pa.large_string()),
        "metadata": pa.array([chunk.metadata for chunk in chunks], pa.string()),
        "vector": pa.array([chunk.vector.tobytes() for chunk in chunks], pa.binary(dimensions * 2)),
    }
    table = pa.table(columns).replace_schema_metadata({"removed": json.dumps(segment.removed)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def decode_segment(content: bytes) -> Segment:
    """The segment that `encode_segment` wrote."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(content))
    removed = json.loads(table.schema.metadata[b"removed"])
    return Segment(tuple(removed), tuple(_chunk(row) for row in table.to_pylist()))


def _chunk(row: dict[str, Any]) -> Chunk:
    return Chunk(**{**row, "vector": np.frombuffer(row["vector"], np.float16)})
