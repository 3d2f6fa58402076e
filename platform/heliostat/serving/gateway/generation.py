"""The way of a request for text through the gateway: checked, reviewed, rendered, answered, counted."""

import asyncio
import uuid

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from heliostat.serving.api.answering import WorkOrder
from heliostat.serving.api.chat_request import ChatCompletionRequest
from heliostat.serving.api.event_stream import EventStream, while_connected
from heliostat.serving.api.orders import Job, estimated_prompt_tokens, prepare
from heliostat.serving.api.protocol import decode_body
from heliostat.serving.api.reviewing import input_texts
from heliostat.serving.api.text_requests import CompletionRequest
from heliostat.serving.config import ServeConfig
from heliostat.serving.engines.interface import SamplingParameters
from heliostat.serving.gateway.answering import Answering
from heliostat.serving.gateway.bodies import read_body
from heliostat.serving.gateway.choosing import Chosen, Models
from heliostat.serving.gateway.context import RequestContext, client_left, context_of
from heliostat.serving.gateway.documents import Documents
from heliostat.serving.gateway.guarding import Guarding
from heliostat.serving.gateway.kept_answers import request_key
from heliostat.serving.gateway.services import Services
from heliostat.serving.retrieval.grounding import Citation

SESSION_HEADER = "x-session-id"
"""Requests with the same one go to the same version; without it OpenAI's field `user` counts."""
VERSION_HEADER = "x-heliostat-version"
SHORT_TOKENS = 500
"""Rendering so much takes about a millisecond; more is done in a thread."""
Asked = ChatCompletionRequest | CompletionRequest


class Generation:
    """Answers chat completions and completions."""

    def __init__(self, models: Models, config: ServeConfig, services: Services) -> None:
        self._models = models
        self._config = config
        self._services = services
        self._guarding = Guarding(services.metrics, services.reviews)
        self._documents: Documents | None = None
        if services.collections and config.retrieval:
            self._documents = Documents(services.collections, config.retrieval, self.body)

    @property
    def routes(self) -> list[Route]:
        """What is mounted."""
        return [
            Route("/v1/chat/completions", self.chat_completions, methods=["POST"]),
            Route("/v1/completions", self.completions, methods=["POST"]),
            *(self._documents.routes if self._documents else ()),
        ]

    async def chat_completions(self, request: Request) -> Response:
        """Continue a conversation, whole or as a stream of events."""
        body = await self.body(request)
        return await self._while_there(request, ChatCompletionRequest.parse(body), body)

    async def completions(self, request: Request) -> Response:
        """Continue a text, whole or as a stream of events."""
        body = await self.body(request)
        return await self._while_there(request, CompletionRequest.parse(body), body)

    async def body(self, request: Request) -> dict[str, object]:
        """The decoded body, read no further than the limits.

        Raises:
            RefusedRequest: it is too long, comes too slowly, or is no JSON object.
        """
        config = self._config
        body = await read_body(request, config.max_request_bytes, config.body_timeout_seconds)
        decoded: dict[str, object] = decode_body(body)
        return decoded

    async def admit(self, request: Request, model: str, session: str | None) -> Chosen:
        """The version that answers, where the caller may ask for it.

        Raises:
            RefusedRequest: the key or a rule does not allow it, or there is no such endpoint.
        """
        context = context_of(request.scope)
        context.asker.check(context.route, model)
        doormen = self._services.doormen
        context.rule = doormen.policy.check(context.asker, model, context.address, context.route)
        chosen = self._models.choose(model, session)
        context.model, context.version = model, chosen.version
        key = context.asker.key_prefix
        context.meter = self._services.metrics.begin(
            chosen.endpoint, chosen.version, key, context.route, chosen.adapter
        )
        return chosen

    async def _while_there(self, request: Request, asked: Asked, body: dict[str, object]) -> Response:
        """Answer, unless the client goes away before there is an answer or its first part."""
        answered = await while_connected(request.receive, self._answer(request, asked, body))
        return client_left() if answered is None else answered

    async def _answer(self, request: Request, asked: Asked, body: dict[str, object]) -> Response:
        context = context_of(request.scope)
        chosen = await self.admit(request, asked.model, request.headers.get(SESSION_HEADER) or asked.user)
        texts = input_texts(asked, chosen.model.tokenizer)
        estimate = estimated_prompt_tokens(asked, texts)
        context.lease = await self._services.doormen.limits.acquire(context.asker, estimate)
        reading, writing = _cache_control(request)
        key, answering = None, None
        if self._services.answers and isinstance(asked, ChatCompletionRequest):
            key = request_key(body, chosen, context.asker.tenant)
            answering = await self._recalled(key, asked, chosen, context) if key and reading else None
        if answering is None:
            answering = await self._prepared(asked, texts, estimate, chosen, context)
            version = chosen.guard.version if chosen.guard else ""
            question = await answering.look_up(self._services, chosen, version, reading, writing)
            if key and question and self._services.answers:
                self._services.answers.remember(key, question, context.prompt_tokens or 0)
        return await _respond(answering, {VERSION_HEADER: chosen.version, **answering.headers})

    async def _recalled(
        self, key: bytes, asked: ChatCompletionRequest, chosen: Chosen, context: RequestContext
    ) -> Answering | None:
        """The kept answer to the very same request, which was reviewed and rendered before."""
        answers = self._services.answers
        known = answers.recall(key) if answers else None
        hit = await answers.find(known.question) if answers and known else None
        if known is None or hit is None:
            return None
        context.prompt_tokens = known.prompt_tokens
        nothing = WorkOrder([], SamplingParameters(max_tokens=0))
        job = Job(asked, chosen.model, (nothing,), known.prompt_tokens, id=f"chatcmpl-{uuid.uuid4().hex}")
        answering = Answering(job, context)
        answering.take(hit)
        self._services.metrics.looked_up(chosen.endpoint, hit.kind)
        return answering

    async def _prepared(
        self, asked: Asked, texts: list[str], estimate: int, chosen: Chosen, context: RequestContext
    ) -> Answering:
        """Reviewed, grounded and rendered."""
        guard = chosen.guard
        if guard:
            asked = await self._guarding.review(asked, texts, guard, context, chosen.model.tokenizer)
        citations: list[Citation] = []
        if self._documents and isinstance(asked, ChatCompletionRequest) and asked.retrieval:
            asked, citations = await self._documents.grounded(asked, context.asker.tenant)
        filtered = guard is not None and guard.looks_at_answers
        if estimate > SHORT_TOKENS:
            job = await asyncio.to_thread(prepare, asked, chosen.model, filtered)
        else:
            job = prepare(asked, chosen.model, filtered)
        context.prompt_tokens = job.prompt_tokens
        return Answering(job, context, citations, guard if filtered else None)


async def _respond(answering: Answering, headers: dict[str, str]) -> Response:
    if not answering.streamed:
        return Response(await answering.whole(), media_type="application/json", headers=headers)
    # The first part is awaited before the status is sent: until then a fault is an HTTP error.
    stream = EventStream(answering.events(await answering.start()))
    stream.headers.update(headers)
    return stream


def _cache_control(request: Request) -> tuple[bool, bool]:
    """Whether the client wants what was kept, and lets its own answer be kept."""
    said = ",".join(request.headers.getlist("cache-control")).lower().split(",")
    directives = {each.partition("=")[0].strip() for each in said}
    return not directives & {"no-cache", "no-store"}, "no-store" not in directives
