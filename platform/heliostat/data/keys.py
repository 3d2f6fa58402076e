"""What dedup and splitting must know of every document of a shard: arrays beside its text.

A decision over all documents looks at these arrays only, so it needs neither the texts nor a shuffle of them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import xxhash

from heliostat.data.documents import Document
from heliostat.storage import Storage
from heliostat.text.normalise import comparison_key

KEYS = np.dtype(
    [
        ("exact", np.uint64, (2,)),  # equal for documents that say the same, white space aside
        ("content", np.uint64, (2,)),  # equal for documents that are the same to the last byte
        ("cluster", np.uint64),  # shared by documents that must not be parted between splits
        ("characters", np.int64),
        ("priority", np.int32),  # the number of the source in the recipe: the first is kept rather
        ("metadata", np.uint64),  # of what is known beside the content
    ]
)


def keys_of(documents: Sequence[Document]) -> np.ndarray:
    """An array of KEYS, one entry a document; its priority is 0 and its cluster that of its exact key."""
    texts = [parts_of(document) for document in documents]
    keys = np.zeros(len(documents), dtype=KEYS)
    keys["exact"] = _pairs(comparison_key(parts) for parts in texts)
    keys["content"] = _pairs(
        _content_hash(document.domain, parts) for document, parts in zip(documents, texts, strict=True)
    )
    keys["cluster"] = keys["exact"][:, 0]
    keys["metadata"] = [_metadata_hash(document.metadata) for document in documents]
    keys["characters"] = [sum(map(len, document.contents)) for document in documents]
    return keys


def parts_of(document: Document) -> list[str]:
    """All that a document says: its text; or roles, contents and calls of its messages, and its tools."""
    if not document.messages:
        return [document.text]
    parts = []
    for message in (*document.messages, *document.rejected):
        more = {name: value for name, value in message.items() if name not in ("role", "content")}
        parts += [message["role"], message["content"]]
        parts += [json.dumps(more, sort_keys=True)] if more else []
    return parts + ([json.dumps(document.tools, sort_keys=True)] if document.tools else [])


def rank_of(keys: np.ndarray) -> np.ndarray:
    """(n,) int64: the place of each document in the total order that decides who stays; 0 stays first.

    By source priority, then the longest, then the hashes of content and metadata: no document's place depends
    on where in its source it was read, by whom, or how often. Only entirely equal documents are told apart by
    position.
    """
    content = keys["content"]
    order = np.lexsort(
        (keys["metadata"], content[:, 1], content[:, 0], -keys["characters"], keys["priority"])
    )
    rank = np.empty(len(keys), dtype=np.int64)
    rank[order] = np.arange(len(keys))
    return rank


def write_array(scratch: Storage, name: str, array: np.ndarray) -> None:
    """Keep an array as a file of numpy's."""
    sink = BytesIO()
    np.save(sink, array, allow_pickle=False)
    scratch.write_bytes(name, sink.getbuffer())


def read_array(scratch: Storage, name: str) -> np.ndarray:
    """An array written by `write_array`; a local one is mapped and not read."""
    if scratch.remote:
        loaded: np.ndarray = np.load(BytesIO(scratch.read_bytes(name)), allow_pickle=False)
        return loaded
    mapped: np.ndarray = np.load(scratch.uri(name), mmap_mode="r", allow_pickle=False)
    return mapped


def _content_hash(domain: str, texts: list[str]) -> bytes:
    digest = xxhash.xxh3_128()
    for text in (domain, *texts):
        digest.update(text.encode("utf-8", "surrogatepass"))
        digest.update(b"\xff")  # no byte of UTF-8: ["a", "b"] differs from ["ab"]
    return digest.digest()


def _metadata_hash(metadata: Mapping[str, Any]) -> int:
    if not metadata:
        return 0
    return xxhash.xxh3_64_intdigest(json.dumps(metadata, sort_keys=True).encode("utf-8", "surrogatepass"))


def _pairs(hashes: Iterable[bytes]) -> np.ndarray:
    """Hashes of 16 bytes as an array (n, 2)."""
    return np.frombuffer(b"".join(hashes), dtype=np.uint64).reshape(-1, 2)
