"""The collections of all tenants, for the gateway's event loop: work on the CPU and the disk is in threads.

Each tenant has a folder of its own, and no method can reach another's. Several processes may share the
workspace: a change holds the collection's lock, and readers look for a new manifest every second.
"""

import asyncio
import hashlib
import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np

from heliostat.errors import BusyError, StorageError
from heliostat.locks import lock
from heliostat.models.embedding_graph import AsyncEmbed
from heliostat.serving.api.errors import RefusedRequest
from heliostat.serving.retrieval.chunking import Span, chunk_text
from heliostat.serving.retrieval.collection import Collection
from heliostat.serving.retrieval.config import RetrievalConfig
from heliostat.serving.retrieval.passages import (
    Added,
    CollectionInfo,
    Document,
    Passage,
    check_documents,
    check_name,
)
from heliostat.serving.retrieval.segments import MANIFEST, Chunk, Manifest, Segment, read_manifest
from heliostat.storage import Storage

FOLDER = "collections"
BUSY_SECONDS = 5.0
"""How long a change waits for another process's change of the same collection."""
_PLAIN_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass
class _Opened:
    collection: Collection
    checked: float


@dataclass(frozen=True)
class _Cut:
    """A document's chunk, before it has a vector."""

    document: Document
    number: int
    span: Span

    @property
    def text(self) -> str:
        return self.document.text[self.span.start : self.span.end]


class Collections:
    """Adding, deleting and searching documents, by tenant and collection."""

    def __init__(
        self, storage: Storage, config: RetrievalConfig, embed: AsyncEmbed, embedder: str | None = None
    ) -> None:
        """`embed` makes vectors of length 1; `embedder` names it (an artifact's id), in the place of the
        config's reference, so that vectors of two embedders are never compared."""
        self._storage = storage
        self._config = config
        self._embed = embed
        self._embedder = embedder or config.embedder
        self._opening = threading.Lock()  # for the table below, which all threads use
        self._opened: OrderedDict[str, _Opened] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def names(self, tenant: str) -> list[str]:
        """A tenant's collections."""
        return await asyncio.to_thread(self._names, tenant)

    async def info(self, tenant: str, name: str) -> CollectionInfo:
        """What a collection holds.

        Raises:
            RefusedRequest: there is none of that name.
        """
        folder = _folder_of(tenant, name)
        async with self._lock_of(folder):
            return (await asyncio.to_thread(self._open, folder)).info()

    async def add(self, tenant: str, name: str, documents: list[Document]) -> Added:
        """Add documents, each in the place of one with the same id; all of them or none. A collection that is
        not there is made.

        Raises:
            RefusedRequest: a document is not fit, or a bound is reached.
        """
        folder = _folder_of(tenant, name)
        check_documents(documents, self._config)
        cuts = await asyncio.to_thread(self._cut, documents)
        if len(cuts) > self._config.max_chunks:
            raise self._full(name)
        vectors = await self._embed([cut.text for cut in cuts])
        async with self._lock_of(folder):
            return await asyncio.to_thread(self._add, folder, cuts, vectors)

    async def remove(self, tenant: str, name: str, document_ids: list[str]) -> int:
        """Take documents out of a collection; how many of them were in it.

        Raises:
            RefusedRequest: there is no such collection.
        """
        folder = _folder_of(tenant, name)
        async with self._lock_of(folder):
            return await asyncio.to_thread(self._remove, folder, document_ids)

    async def delete(self, tenant: str, name: str) -> None:
        """Delete a collection with all that is in it.

        Raises:
            RefusedRequest: there is none of that name.
        """
        folder = _folder_of(tenant, name)
        async with self._lock_of(folder):
            await asyncio.to_thread(self._delete, folder)

    async def search(self, tenant: str, name: str, query: str, top_k: int = 5) -> list[Passage]:
        """The passages nearest to a query, nearest first.

        Raises:
            RefusedRequest: there is no such collection, the query is empty, or `top_k` is out of bounds.
        """
        folder = _folder_of(tenant, name)
        if not query.strip():
            raise RefusedRequest("query: is empty; say what to look for", "invalid_value", param="query")
        if not 1 <= top_k <= self._config.max_top_k:
            raise RefusedRequest(
                f"top_k: give 1 to {self._config.max_top_k}, not {top_k}", "invalid_value", param="top_k"
            )
        (vector,) = await self._embed([query])
        async with self._lock_of(folder):
            collection = await asyncio.to_thread(self._open, folder)
            return await asyncio.to_thread(collection.search, vector, top_k)

    def _lock_of(self, folder: str) -> asyncio.Lock:
        return self._locks.setdefault(folder, asyncio.Lock())

    def _names(self, tenant: str) -> list[str]:
        folder = f"{FOLDER}/{_tenant_folder(tenant)}"
        names = self._storage.list(folder)
        return [name for name in names if self._storage.exists(f"{folder}/{name}/{MANIFEST}")]

    def _cut(self, documents: list[Document]) -> list[_Cut]:
        return [
            _Cut(document, number, span)
            for document in documents
            for number, span in enumerate(chunk_text(document.text, self._config))
        ]

    def _add(self, folder: str, cuts: list[_Cut], vectors: np.ndarray) -> Added:
        with self._writing(folder):
            collection = self._open(folder, at_once=True, dimensions=vectors.shape[1])
            ids = {cut.document.id for cut in cuts}
            num_chunks = collection.num_chunks - collection.num_chunks_of(ids) + len(cuts)
            if num_chunks > self._config.max_chunks:
                raise self._full(collection.info().name)
            num_replaced = sum(collection.has(document_id) for document_id in ids)
            first_key = collection.manifest.next_key
            chunks = tuple(
                _to_chunk(cut, first_key + at, vectors[at].astype(np.float16)) for at, cut in enumerate(cuts)
            )
            collection.change(Segment((), chunks))
            return Added(len(ids), num_replaced, len(cuts))

    def _remove(self, folder: str, document_ids: list[str]) -> int:
        with self._writing(folder):
            collection = self._open(folder, at_once=True)
            there = sorted({each for each in document_ids if collection.has(each)})
            if there:
                collection.change(Segment(tuple(there)))
            return len(there)

    def _delete(self, folder: str) -> None:
        with self._writing(folder):
            self._forget(folder)
            if not self._storage.exists(f"{folder}/{MANIFEST}"):
                raise _not_found(folder)
            self._storage.delete(f"{folder}/{MANIFEST}")  # from here on it is no collection
            self._storage.delete(folder)

    def _open(self, folder: str, at_once: bool = False, dimensions: int | None = None) -> Collection:
        """The collection as it is now (`at_once`) or was a second ago; with `dimensions`, one is made."""
        opened = self._opened.get(folder)
        now = time.monotonic()
        if opened is None or at_once or now - opened.checked >= self._config.refresh_seconds:
            opened = _Opened(self._read(folder, opened, dimensions), now)
        with self._opening:
            self._opened[folder] = opened
            self._opened.move_to_end(folder)
            while len(self._opened) > self._config.max_open_collections:
                self._opened.popitem(last=False)
        return opened.collection

    def _forget(self, folder: str) -> None:
        with self._opening:
            self._opened.pop(folder, None)

    def _read(self, folder: str, opened: _Opened | None, dimensions: int | None) -> Collection:
        for attempt in range(3):
            manifest = read_manifest(self._storage, folder)
            if manifest is None:
                self._forget(folder)
                return self._make(folder, dimensions)
            if manifest.embedder != self._embedder:
                raise RefusedRequest(
                    f"collection '{_name_in(folder)}' was made with the embedder {manifest.embedder}, and "
                    f"this endpoint has {self._embedder}; delete it and add its documents again",
                    "embedder_mismatch",
                    409,
                )
            if opened is not None and opened.collection.manifest == manifest:
                return opened.collection
            try:
                return Collection(self._storage, folder, manifest)
            except StorageError:  # files of a manifest that another process has replaced in between
                if attempt == 2 or read_manifest(self._storage, folder) == manifest:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _make(self, folder: str, dimensions: int | None) -> Collection:
        if dimensions is None:
            raise _not_found(folder)
        tenant_folder = folder.rpartition("/")[0]
        if len(self._storage.list(tenant_folder)) >= self._config.max_collections:
            raise RefusedRequest(
                f"there are {self._config.max_collections} collections already; delete one first",
                "too_many_collections",
                param="collection",
            )
        manifest = Manifest(embedder=self._embedder, dimensions=dimensions, generation=0, next_key=0)
        return Collection(self._storage, folder, manifest)

    @contextmanager
    def _writing(self, folder: str) -> Iterator[None]:
        """Hold the collection against other processes."""
        deadline = time.monotonic() + BUSY_SECONDS
        name = f"{FOLDER}-{hashlib.sha256(folder.encode()).hexdigest()[:32]}"
        with ExitStack() as holds:
            while True:
                try:
                    holds.enter_context(lock(self._storage, name))
                    break
                except BusyError:
                    if time.monotonic() >= deadline:
                        raise RefusedRequest(
                            f"collection '{_name_in(folder)}' is being changed; try again in a moment",
                            "collection_busy",
                            409,
                        ) from None
            yield

    def _full(self, name: str) -> RefusedRequest:
        return RefusedRequest(
            f"collection '{name}' would have more than {self._config.max_chunks} chunks; "
            "remove documents first",
            "collection_full",
        )


def _to_chunk(cut: _Cut, key: int, vector: np.ndarray) -> Chunk:
    metadata = json.dumps(dict(cut.document.metadata))
    return Chunk(key, cut.document.id, cut.number, cut.span.start, cut.span.end, cut.text, metadata, vector)


def _tenant_folder(tenant: str) -> str:
    """A folder's name for any tenant's; no two share one ('~' is in no plain name)."""
    if _PLAIN_TENANT.fullmatch(tenant):
        return tenant
    return f"~{hashlib.sha256(tenant.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def _folder_of(tenant: str, name: str) -> str:
    return f"{FOLDER}/{_tenant_folder(tenant)}/{check_name(name)}"


def _name_in(folder: str) -> str:
    return folder.rpartition("/")[2]


def _not_found(folder: str) -> RefusedRequest:
    return RefusedRequest(
        f"The collection '{_name_in(folder)}' does not exist; add documents to make it",
        "collection_not_found",
        404,
        "collection",
    )
