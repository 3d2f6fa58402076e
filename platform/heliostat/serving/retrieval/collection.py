"""One collection in memory: its documents' chunks and an index of their vectors. For one thread at a time.

Approximate search is usearch's HNSW (Malkov & Yashunin 2018); small collections are searched exactly.

usearch carries a C++ library of its own. Where that is the first one in a process, torch.jit's tracing hangs
for ever in printing a number; pyarrow brings the system's.
"""

import json
from collections.abc import Iterable
from pathlib import PurePosixPath

import numpy as np
import pyarrow  # noqa: F401  # before usearch, see above
from usearch.index import Index

from heliostat.errors import StorageError
from heliostat.serving.retrieval.passages import CollectionInfo, Passage
from heliostat.serving.retrieval.segments import (
    Chunk,
    FileHash,
    Manifest,
    Segment,
    decode_segment,
    encode_segment,
    read_file,
    write_file,
    write_manifest,
)
from heliostat.storage import Storage

EXACT_BELOW = 10_000
"""Comparing with so many chunks takes some two milliseconds and misses none."""
MAX_SEGMENTS = 64
"""More are written together into one."""
INDEX_EVERY = 512
"""Changed chunks, or a tenth of all, behind which the index is written again; what changed since then is
added when it is read, at up to 2 ms a chunk."""


class Collection:
    """What a manifest's files say, and changes to them."""

    def __init__(self, storage: Storage, folder: str, manifest: Manifest) -> None:
        """Read a collection's files; the index is made anew from the chunks as far as it differs from them.

        Raises:
            StorageError: a segment is missing or damaged.
        """
        self.manifest = manifest
        self._storage = storage
        self._folder = folder
        self._chunks: dict[int, Chunk] = {}
        self._keys_of: dict[str, list[int]] = {}
        for file in manifest.segments:
            self._replay(decode_segment(read_file(storage, folder, file)))
        self._index = self._read_index(manifest.index)
        self._num_unsaved = self._reconcile()

    @property
    def num_chunks(self) -> int:
        """Chunks of all its documents."""
        return len(self._chunks)

    def info(self) -> CollectionInfo:
        """What it holds."""
        name = PurePosixPath(self._folder).name
        return CollectionInfo(name, len(self._keys_of), len(self._chunks), self.manifest.embedder)

    def has(self, document_id: str) -> bool:
        """Whether a document is in it."""
        return document_id in self._keys_of

    def num_chunks_of(self, document_ids: Iterable[str]) -> int:
        """Chunks of those documents that are in it."""
        return sum(len(self._keys_of.get(document_id, ())) for document_id in document_ids)

    def search(self, vector: np.ndarray, top_k: int) -> list[Passage]:
        """The chunks nearest to a vector of length 1, nearest first."""
        if not self._chunks:
            return []
        exact = len(self._chunks) < EXACT_BELOW
        matches = self._index.search(vector.astype(np.float16), top_k, threads=1, exact=exact)
        found = zip(matches.keys, matches.distances, strict=True)
        return [self._passage(self._chunks[int(key)], 1 - float(distance)) for key, distance in found]

    def change(self, segment: Segment) -> None:
        """Write a change and make it count; until it is written nothing of it is seen.

        Raises:
            StorageError: the place refuses; the collection stays as it was.
        """
        generation = self.manifest.generation + 1
        name = f"segment-{generation:06}.parquet"
        content = encode_segment(segment, self.manifest.dimensions)
        file = write_file(self._storage, self._folder, name, content)
        next_key = max([self.manifest.next_key, *(chunk.key + 1 for chunk in segment.chunks)])
        update = {"generation": generation, "next_key": next_key}
        self._publish({**update, "segments": (*self.manifest.segments, file)})
        self._replay(segment)
        self._num_unsaved += self._reconcile()
        if len(self.manifest.segments) > MAX_SEGMENTS:
            self._merge_segments()
        if self._num_unsaved >= max(INDEX_EVERY, len(self._chunks) // 10):
            self._save_index()

    def _publish(self, update: dict[str, object]) -> None:
        manifest = self.manifest.model_copy(update=update)
        write_manifest(self._storage, self._folder, manifest)
        self.manifest = manifest

    def _merge_segments(self) -> None:
        old = self.manifest.segments
        generation = self.manifest.generation + 1
        merged = encode_segment(Segment((), tuple(self._chunks.values())), self.manifest.dimensions)
        file = write_file(self._storage, self._folder, f"segment-{generation:06}.parquet", merged)
        self._publish({"generation": generation, "segments": (file,)})
        for each in old:
            self._storage.delete(f"{self._folder}/{each.name}")

    def _save_index(self) -> None:
        old = self.manifest.index
        generation = self.manifest.generation + 1
        file = write_file(
            self._storage, self._folder, f"index-{generation:06}.usearch", self._index.save() or b""
        )
        self._publish({"generation": generation, "index": file})
        self._num_unsaved = 0
        if old is not None:
            self._storage.delete(f"{self._folder}/{old.name}")

    def _replay(self, segment: Segment) -> None:
        for document_id in {*segment.removed, *(chunk.document_id for chunk in segment.chunks)}:
            for key in self._keys_of.pop(document_id, ()):
                del self._chunks[key]
        for chunk in segment.chunks:
            self._chunks[chunk.key] = chunk
            self._keys_of.setdefault(chunk.document_id, []).append(chunk.key)

    def _empty_index(self) -> Index:
        return Index(ndim=self.manifest.dimensions, metric="cos", dtype="f16")

    def _read_index(self, file: FileHash | None) -> Index:
        index = self._empty_index()
        if file is not None:
            try:
                index.load(read_file(self._storage, self._folder, file))
            except (StorageError, RuntimeError):
                return self._empty_index()
        return index if index.ndim == self.manifest.dimensions else self._empty_index()

    def _reconcile(self) -> int:
        """Take out of the index what is no chunk, put in what is missing; how many those were."""
        indexed = set(np.asarray(self._index.keys[: len(self._index)]).tolist())
        gone = np.array(sorted(indexed - self._chunks.keys()), np.uint64)
        if len(gone) > len(indexed) // 2:  # removed keys leave holes, through which a search still wanders
            self._index, indexed = self._empty_index(), set()
        elif len(gone):
            self._index.remove(gone, threads=1)
        new = np.array(sorted(self._chunks.keys() - indexed), np.uint64)
        if len(new):
            vectors = np.stack([self._chunks[int(key)].vector for key in new])
            self._index.add(new, vectors, threads=1)
        return len(gone) + len(new)

    def _passage(self, chunk: Chunk, score: float) -> Passage:
        metadata = json.loads(chunk.metadata)
        return Passage(chunk.document_id, chunk.number, chunk.start, chunk.end, chunk.text, score, metadata)
