"""One job on its way to its client: from what was kept or from an engine, counted, kept, with its
citations.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass

import orjson

from heliostat.serving.api.event_stream import first_of
from heliostat.serving.api.orders import Job
from heliostat.serving.api.reply import Part, Reply, Transcript
from heliostat.serving.cache.answers import Hit
from heliostat.serving.cache.question import Question
from heliostat.serving.channel.messages import ElsewhereError
from heliostat.serving.gateway.choosing import Chosen
from heliostat.serving.gateway.context import RequestContext
from heliostat.serving.gateway.kept_answers import KeptAnswers, to_transcript
from heliostat.serving.gateway.services import Services
from heliostat.serving.guard.guard import Guard
from heliostat.serving.retrieval.grounding import Citation

CACHE_HEADER = "x-cache"


@dataclass(frozen=True)
class Started:
    """An answer whose first part is there."""

    reply: Reply
    first: Part
    rest: AsyncGenerator[Part]


class Answering:
    """Answers one job, once."""

    def __init__(
        self,
        job: Job,
        context: RequestContext,
        citations: Sequence[Citation] = (),
        guard: Guard | None = None,
    ) -> None:
        """With a guard the answer goes through its filter."""
        self._job = job
        self._guard = guard
        self._context = context
        self._citations = [asdict(citation) for citation in citations]
        self._known: Transcript | None = None
        self._answers: KeptAnswers | None = None
        self._question: Question | None = None
        self.headers: dict[str, str] = {}

    @property
    def streamed(self) -> bool:
        """Whether the client wants the answer as it comes."""
        return bool(self._job.request.stream)

    async def look_up(
        self, services: Services, chosen: Chosen, filter_version: str, reading: bool, writing: bool
    ) -> Question | None:
        """See whether the answer was given before; where not, and with `writing`, this one will be kept.

        What the cache was asked comes back, where it was.
        """
        answers = services.answers
        question = answers and answers.question(self._job, chosen, self._context, filter_version)
        if not answers or not question:
            return None
        hit = await answers.find(question) if reading else None
        if hit:
            self.take(hit)
        elif writing:
            self._answers, self._question = answers, question
        services.metrics.looked_up(chosen.endpoint, hit.kind if hit else "miss")
        self.headers[CACHE_HEADER] = hit.kind if hit else "miss"
        return question

    def take(self, hit: Hit) -> None:
        """Answer with what was kept."""
        self._known = to_transcript(hit)
        self._context.cache = hit.kind
        self.headers[CACHE_HEADER] = hit.kind

    async def whole(self) -> bytes:
        """The response without streaming; as nothing was shown, an answer that is lost is made again.

        Raises:
            ServingError: the engine cannot answer.
        """
        try:
            body = await self._whole()
        except ElsewhereError:
            body = await self._whole()
        if self._citations:
            return orjson.dumps(orjson.loads(body) | {"citations": self._citations})
        return body

    async def start(self) -> Started:
        """The first part and what follows.

        Raises:
            ServingError: the engine cannot answer.
        """
        reply = Reply(self._job)
        first, rest = await first_of(self._parts(reply))
        return Started(reply, first, rest)

    async def events(self, started: Started) -> AsyncGenerator[bytes]:
        """Server-sent events; citations come first, in a chunk without choices."""
        if self._citations:
            chunk = {
                "id": self._job.id,
                "object": "chat.completion.chunk",
                "created": self._job.created,
                "model": self._job.model.id,
                "choices": [],
                "citations": self._citations,
            }
            yield b"data: " + orjson.dumps(chunk) + b"\n\n"
        async with aclosing(started.reply.events(started.first, started.rest)) as events:
            try:
                async for event in events:
                    yield event
            finally:
                self._count(started.reply)
        self._keep(started.reply)

    async def _whole(self) -> bytes:
        reply = Reply(self._job)
        try:
            body = await reply.whole(self._parts(reply))
        finally:
            self._count(reply)
        self._keep(reply)
        return body

    def _parts(self, reply: Reply) -> AsyncGenerator[Part]:
        if self._known:
            return reply.replay([self._known])
        return self._metered(reply.generate(self._guard.output if self._guard else None))

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
        if reply.blocked:
            self._context.rule = reply.blocked.rule

    def _keep(self, reply: Reply) -> None:
        if self._answers and self._question:
            self._answers.keep(self._question, reply.transcripts[0], self._job.prompt_tokens)
