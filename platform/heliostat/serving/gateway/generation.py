"""The way of a request for text through the gateway: checked, reviewed, rendered, answered, counted."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from heliostat.serving.api.chat_request import ChatCompletionRequest
from heliostat.serving.api.errors import slow_body, too_large
from heliostat.serving.api.event_stream import EventStream, first_of, while_connected
from heliostat.serving.api.orders import Job, estimated_prompt_tokens, prepare
from heliostat.serving.api.protocol import decode_body
from heliostat.serving.api.reply import Part, Reply
from heliostat.serving.api.reviewing import input_texts
from heliostat.serving.api.text_requests import CompletionRequest
from heliostat.serving.channel.messages import ElsewhereError
from heliostat.serving.config import ServeConfig
from heliostat.serving.gateway.choosing import Chosen, Models
from heliostat.serving.gateway.context import RequestContext, context_of
from heliostat.serving.gateway.services import Services

SESSION_HEADER = "x-session-id"
"""Requests with the same one go to the same version; without it OpenAI's field `user` counts."""
VERSION_HEADER = "x-heliostat-version"
CLIENT_LEFT = 499
SHORT_CHARACTERS = 2000
"""Rendering so much takes about a millisecond; more is done in a thread."""
Asked = ChatCompletionRequest | CompletionRequest


class Generation:
    """Answers chat completions and completions."""

    def __init__(self, models: Models, config: ServeConfig, services: Services) -> None:
        self._models = models
        self._config = config
        self._services = services

    async def chat_completions(self, request: Request) -> Response:
        """Continue a conversation, whole or as a stream of events."""
        return await self._answer(request, ChatCompletionRequest.parse(await self.body(request)))

    async def completions(self, request: Request) -> Response:
        """Continue a text, whole or as a stream of events."""
        return await self._answer(request, CompletionRequest.parse(await self.body(request)))

    async def body(self, request: Request) -> dict[str, object]:
        """The decoded body, read no further than the limits.

        Raises:
            RefusedRequest: it is too long, comes too slowly, or is no JSON object.
        """
        body = bytearray()
        limit, seconds = self._config.max_request_bytes, self._config.body_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > limit:
                        raise too_large(limit)
        except TimeoutError:
            raise slow_body(seconds) from None
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
        context.meter = self._services.metrics.begin(model, chosen.version, key, context.route)
        return chosen

    async def _answer(self, request: Request, asked: Asked) -> Response:
        context = context_of(request.scope)
        chosen = await self.admit(request, asked.model, request.headers.get(SESSION_HEADER) or asked.user)
        texts = input_texts(asked, chosen.model.tokenizer)
        estimate = estimated_prompt_tokens(asked, texts)
        context.lease = await self._services.doormen.limits.acquire(context.asker, estimate)
        if sum(map(len, texts)) > SHORT_CHARACTERS:
            job = await asyncio.to_thread(prepare, asked, chosen.model)
        else:
            job = prepare(asked, chosen.model)
        answering = _Answering(job, context)
        headers = {VERSION_HEADER: chosen.version}
        if not asked.stream:
            whole = await while_connected(request.receive, answering.whole())
            if whole is None:
                return Response(status_code=CLIENT_LEFT)
            return Response(whole, media_type="application/json", headers=headers)
        # The first part is awaited before the status is sent: until then a fault is an HTTP error.
        started = await while_connected(request.receive, answering.start())
        if started is None:
            return Response(status_code=CLIENT_LEFT)
        stream = EventStream(answering.events(started))
        stream.headers.update(headers)
        return stream


@dataclass(frozen=True)
class _Started:
    reply: Reply
    first: Part
    rest: AsyncGenerator[Part]


class _Answering:
    """One job on its way to its client."""

    def __init__(self, job: Job, context: RequestContext) -> None:
        self._job = job
        self._context = context
        context.prompt_tokens = job.prompt_tokens

    async def whole(self) -> bytes:
        """The response without streaming; as nothing was shown, an answer that is lost is made again."""
        try:
            return await self._whole()
        except ElsewhereError:
            return await self._whole()

    async def start(self) -> _Started:
        """The first part and what follows."""
        reply = Reply(self._job)
        first, rest = await first_of(self._metered(reply.generate()))
        return _Started(reply, first, rest)

    async def events(self, started: _Started) -> AsyncGenerator[bytes]:
        """Server-sent events."""
        async with aclosing(started.reply.events(started.first, started.rest)) as events:
            try:
                async for event in events:
                    yield event
            finally:
                self._count(started.reply)

    async def _whole(self) -> bytes:
        reply = Reply(self._job)
        try:
            return await reply.whole(self._metered(reply.generate()))
        finally:
            self._count(reply)

    async def _metered(self, parts: AsyncGenerator[Part]) -> AsyncGenerator[Part]:
        meter = self._context.meter
        had = [0] * len(self._job.orders)
        async with aclosing(parts):
            async for place, delta in parts:
                if meter:
                    meter.tokens(delta.completion_tokens - had[place])
                    had[place] = delta.completion_tokens
                yield place, delta

    def _count(self, reply: Reply) -> None:
        self._context.completion_tokens = sum(made.completion_tokens for made in reply.transcripts)
