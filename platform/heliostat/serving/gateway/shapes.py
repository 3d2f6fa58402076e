"""What the operators' and the collections' routes take and give, and how the gateway says that it is well."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from heliostat.endpoints import Version
from heliostat.serving.api.chat_request import check_depth
from heliostat.serving.api.protocol import Incoming, Items
from heliostat.serving.api.responses import Outgoing
from heliostat.serving.fleet.status import EndpointStatus
from heliostat.serving.guard.review_queue import ReviewItem


class Nothing(BaseModel):
    """A body without fields; also the base of what operators send, where no field is unknown."""

    model_config = ConfigDict(extra="forbid")


class CanaryShare(Nothing):
    """The newest version's share, in percent."""

    weight: float = Field(ge=0, le=100)


class ReplicaBounds(Nothing):
    """Between how many replicas."""

    fewest: int = Field(ge=0)
    most: int = Field(ge=1)


class Decision(Nothing):
    """Why a review is decided as it is."""

    reason: str = ""


class Purge(Nothing):
    """Whose kept answers go; all, where neither is said."""

    tenant: str | None = None
    model: str | None = None


class DocumentBody(Incoming):
    """A text with its id, and any JSON object beside it."""

    id: str
    text: str
    metadata: dict[str, Any] = Field(default_factory=dict)


class AddDocuments(Incoming):
    """Documents to add."""

    documents: Annotated[Items[DocumentBody], Field(min_length=1)]

    def check(self) -> None:
        """Refuse metadata that JSON's own readers would give up on."""
        for place, document in enumerate(self.documents):
            check_depth(document.metadata, f"documents.{place}.metadata")


class RemoveDocuments(Incoming):
    """Ids of documents to take out."""

    ids: Annotated[Items[str], Field(min_length=1)]


class Search(Incoming):
    """What to look for."""

    query: str
    top_k: Annotated[int, Field(strict=True)] = 5


class Health(Outgoing):
    """Whether every engine is able to work, and if not, why."""

    status: Literal["ok", "unhealthy"]
    models: list[str]
    reason: str | None = None


class Endpoints(Outgoing):
    """All of them."""

    endpoints: list[EndpointStatus]


class Logs(Outgoing):
    """The last lines of each replica's log, by `VERSION/REPLICA`."""

    logs: dict[str, list[str]]


class Operated(Outgoing):
    """An endpoint and its versions behind a change."""

    name: str
    versions: list[Version]


class Reviews(Outgoing):
    """Requests that a rule held."""

    reviews: list[ReviewItem]


class Purged(Outgoing):
    """How many kept answers went."""

    num_purged: int


class CollectionNames(Outgoing):
    """The caller's collections."""

    collections: list[str]


class CollectionFacts(Outgoing):
    """What a collection holds."""

    name: str
    num_documents: int
    num_chunks: int
    embedder: str


class AddedDocuments(Outgoing):
    """What adding did."""

    num_documents: int
    num_replaced: int
    num_chunks: int


class RemovedDocuments(Outgoing):
    """How many were there and went."""

    num_removed: int


class DeletedCollection(Outgoing):
    """Its name."""

    deleted: str


class FoundPassage(Outgoing):
    """Characters `start` to `end` of a document, and how near they are to the query."""

    document_id: str
    chunk: int
    start: int
    end: int
    text: str
    score: float
    metadata: dict[str, Any]


class FoundPassages(Outgoing):
    """The nearest first."""

    passages: list[FoundPassage]
