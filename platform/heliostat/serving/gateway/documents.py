"""Collections of documents over HTTP, and putting what they hold in front of a question.

GET /v1/collections, /v1/collections/NAME; DELETE /v1/collections/NAME;
POST /v1/collections/NAME/documents, /v1/collections/NAME/search; DELETE /v1/collections/NAME/documents.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from heliostat.serving.api.chat_request import ChatCompletionRequest
from heliostat.serving.api.errors import RefusedRequest
from heliostat.serving.gateway.context import context_of
from heliostat.serving.gateway.shapes import AddDocuments, RemoveDocuments, Search
from heliostat.serving.retrieval.config import RetrievalConfig
from heliostat.serving.retrieval.grounding import Citation, ground
from heliostat.serving.retrieval.passages import Document
from heliostat.serving.retrieval.store import Collections

ReadBody = Callable[[Request], Awaitable[dict[str, object]]]


class Documents:
    """The handlers, and the grounding of chat requests."""

    def __init__(self, collections: Collections, config: RetrievalConfig, read_body: ReadBody) -> None:
        self._collections = collections
        self._config = config
        self._read_body = read_body

    @property
    def routes(self) -> list[Route]:
        """What is mounted below /v1/collections."""
        one, documents = "/v1/collections/{name}", "/v1/collections/{name}/documents"
        return [
            Route("/v1/collections", self.names),
            Route(one, self.info, methods=["GET"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(documents, self.add, methods=["POST"]),
            Route(documents, self.remove, methods=["DELETE"]),
            Route(f"{one}/search", self.search, methods=["POST"]),
        ]

    async def names(self, request: Request) -> Response:
        """The caller's collections."""
        return JSONResponse({"collections": await self._collections.names(_tenant(request))})

    async def info(self, request: Request) -> Response:
        """What a collection holds."""
        return JSONResponse(asdict(await self._collections.info(_tenant(request), _name(request))))

    async def add(self, request: Request) -> Response:
        """Add documents, each in the place of one with the same id."""
        body = AddDocuments.parse(await self._read_body(request))
        documents = [Document(each.id, each.text, each.metadata) for each in body.documents]
        return JSONResponse(asdict(await self._collections.add(_tenant(request), _name(request), documents)))

    async def remove(self, request: Request) -> Response:
        """Take documents out."""
        body = RemoveDocuments.parse(await self._read_body(request))
        removed = await self._collections.remove(_tenant(request), _name(request), list(body.ids))
        return JSONResponse({"num_removed": removed})

    async def delete(self, request: Request) -> Response:
        """Delete a collection."""
        await self._collections.delete(_tenant(request), _name(request))
        return JSONResponse({"deleted": _name(request)})

    async def search(self, request: Request) -> Response:
        """The passages nearest to a query."""
        body = Search.parse(await self._read_body(request))
        hits = await self._collections.search(_tenant(request), _name(request), body.query, body.top_k)
        return JSONResponse({"passages": [asdict(hit) for hit in hits]})

    async def grounded(
        self, asked: ChatCompletionRequest, tenant: str
    ) -> tuple[ChatCompletionRequest, list[Citation]]:
        """The request with passages of its collection in front of its question, and what they are.

        Raises:
            RefusedRequest: there is no such collection, or no question.
        """
        wanted = asked.retrieval
        if wanted is None:
            return asked, []
        question = asked.messages[-1].content if asked.messages else None
        if not isinstance(question, str):
            raise RefusedRequest(
                "'retrieval' looks documents up for a question; end with a user message of plain text",
                "invalid_value",
                param="messages",
            )
        hits = await self._collections.search(tenant, wanted.collection, question, wanted.top_k)
        last = {"role": asked.messages[-1].role, "content": question}
        grounded = ground([last], hits, self._config.context_tokens)
        body = asked.model_dump(mode="json", by_alias=True, exclude_unset=True)
        body["messages"][-1]["content"] = grounded.messages[-1]["content"]
        return ChatCompletionRequest.parse(body), grounded.citations


def _tenant(request: Request) -> str:
    return context_of(request.scope).asker.tenant


def _name(request: Request) -> str:
    return str(request.path_params["name"])
