"""Documents that go into a collection and passages that come out of it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heliostat.serving.api.errors import RefusedRequest
from heliostat.serving.retrieval.config import RetrievalConfig

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
MAX_ID_CHARS = 256


@dataclass(frozen=True)
class Document:
    """A text with the id under which it is replaced, deleted and cited; `metadata` is any JSON object."""

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Passage:
    """A chunk that was found: characters `start` to `end` of its document, and the cosine to the query."""

    document_id: str
    chunk: int
    start: int
    end: int
    text: str
    score: float
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CollectionInfo:
    """What a collection holds."""

    name: str
    num_documents: int
    num_chunks: int
    embedder: str


@dataclass(frozen=True)
class Added:
    """What adding documents did."""

    num_documents: int
    num_replaced: int
    num_chunks: int


def check_name(name: str) -> str:
    """The name of a collection, if it is one.

    Raises:
        RefusedRequest: it is not.
    """
    if not NAME.fullmatch(name):
        raise RefusedRequest(
            f"collection {name[:80]!r}: give a name of 1 to 64 letters, digits, '-' and '_', "
            "a letter or digit first",
            "invalid_collection_name",
            param="collection",
        )
    return name


def check_documents(documents: list[Document], config: RetrievalConfig) -> None:
    """See that documents can be kept.

    Raises:
        RefusedRequest: too many, too long, without an id or a text, or twice the same id.
    """
    if not 1 <= len(documents) <= config.max_documents_at_once:
        raise _refusal("documents", f"send 1 to {config.max_documents_at_once} at once, not {len(documents)}")
    seen: set[str] = set()
    for position, document in enumerate(documents):
        problem = _problem(document, config)
        if problem is None and document.id in seen:
            problem = f"the id {document.id!r} comes twice; give each document its own"
        if problem:
            raise _refusal(f"documents[{position}]", problem)
        seen.add(document.id)


def _problem(document: Document, config: RetrievalConfig) -> str | None:
    if not 1 <= len(document.id) <= MAX_ID_CHARS:
        return f"the id must have 1 to {MAX_ID_CHARS} characters"
    if not document.text.strip():
        return "the text is empty"
    if len(document.text) > config.max_document_chars:
        return f"the text has {len(document.text)} characters; send at most {config.max_document_chars}"
    try:
        f"{document.id}{document.text}".encode()
        size = len(json.dumps(dict(document.metadata), allow_nan=False).encode())
    except UnicodeEncodeError:
        return "id or text holds half a surrogate pair, which is no character; remove it"
    except (TypeError, ValueError) as error:
        return f"the metadata is no JSON: {error}"
    if size > config.max_metadata_bytes:
        return f"the metadata takes {size} bytes; send at most {config.max_metadata_bytes}"
    return None


def _refusal(param: str, problem: str) -> RefusedRequest:
    return RefusedRequest(f"{param}: {problem}", "invalid_documents", param=param)
