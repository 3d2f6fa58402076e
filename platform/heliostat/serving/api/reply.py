"""Answering a job: from its orders, or from answers that are known already, to the bytes a client receives.

Knows no HTTP. Usage: `reply = Reply(job)`, then `reply.whole(reply.generate())`, or, to have a fault in front
of the first token as an error instead of a stream, `reply.events(*await first_of(reply.generate()))`.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from heliostat.errors import HeliostatError
from heliostat.serving.api.answering import Ending, OutputFilter, TextDelta, answer
from heliostat.serving.api.chat_request import ChatCompletionRequest
from heliostat.serving.api.errors import RefusedRequest, engine_failure
from heliostat.serving.api.formats import Collected, format_of
from heliostat.serving.api.interleave import interleave
from heliostat.serving.api.orders import Job
from heliostat.serving.api.tool_calls import ToolCallParser, with_calls

Part = tuple[int, TextDelta]


@dataclass
class Transcript:
    """What one choice has come to, its tool calls as the model wrote them: fit for `Reply.replay`."""

    text: str = ""
    completion_tokens: int = 0
    finish_reason: Ending | None = None


class Reply:
    """One request's answer; `transcripts` has an entry for each choice."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._format = format_of(job)
        self._filters: list[OutputFilter] = []
        self.transcripts = [Transcript() for _ in job.orders]

    @property
    def id(self) -> str:
        """The answer's id; engines know its choices as ID-0, ID-1 and so on."""
        return self._job.id

    @property
    def usage(self) -> dict[str, int]:
        """Tokens until now, over all choices."""
        prompt, completion = (
            self._job.prompt_tokens,
            sum(made.completion_tokens for made in self.transcripts),
        )
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    @property
    def blocked(self) -> Any:
        """What the output filter blocked a choice for, or None."""
        return next((each.blocked for each in self._filters if each.blocked), None)

    def generate(self, new_filter: Callable[[], OutputFilter] | None = None) -> AsyncGenerator[Part]:
        """The parts as engines make them, each choice through a filter of its own.

        Raises:
            ServingError: an engine cannot go on; the other choices end too.
        """
        sources = []
        for place, order in enumerate(self._job.orders):
            output_filter = new_filter() if new_filter else None
            if output_filter:
                self._filters.append(output_filter)
            deltas = answer(order, self._job.model, f"{self._job.id}-{place}", output_filter)
            sources.append(self._choice(place, deltas))
        return interleave(sources)

    def replay(self, known: Sequence[Transcript]) -> AsyncGenerator[Part]:
        """The parts of answers that are known: one for each choice."""
        pairs = zip(range(len(self._job.orders)), known, strict=True)
        return interleave([self._choice(place, _once(made)) for place, made in pairs])

    async def whole(self, parts: AsyncGenerator[Part]) -> bytes:
        """The response without streaming."""
        choices = [Collected() for _ in self._job.orders]
        async with aclosing(parts):
            async for place, delta in parts:
                choices[place].add(delta)
        return self._format.whole(choices, self.usage)

    async def events(self, first: Part, rest: AsyncGenerator[Part]) -> AsyncGenerator[bytes]:
        """Server-sent events: opening, pieces, usage if asked, [DONE]; an error event if it ends early."""
        async with aclosing(rest):
            opening = b"".join(self._format.opening(choice) for choice in range(len(self._job.orders)))
            yield opening + self._format.piece(*first)
            try:
                async for place, delta in rest:
                    yield self._format.piece(place, delta)
            except HeliostatError as error:
                yield error_event(error)
                return
            yield self._format.closing(self.usage)

    def _choice(self, place: int, deltas: AsyncGenerator[TextDelta]) -> AsyncGenerator[TextDelta]:
        recorded = _record(deltas, self.transcripts[place])
        request = self._job.request
        if self._job.syntax is None or not isinstance(request, ChatCompletionRequest):
            return recorded
        names = [tool.function.name for tool in request.tools_in_use]
        single = request.parallel_tool_calls is False
        return with_calls(recorded, ToolCallParser(self._job.syntax, names, single))


def error_event(error: HeliostatError) -> bytes:
    """The event that ends a stream which cannot go on."""
    refusal = error if isinstance(error, RefusedRequest) else engine_failure(str(error))
    return b"data: " + orjson.dumps(refusal.body) + b"\n\n"


async def _record(deltas: AsyncGenerator[TextDelta], transcript: Transcript) -> AsyncGenerator[TextDelta]:
    async with aclosing(deltas):
        async for delta in deltas:
            transcript.text += delta.text
            transcript.completion_tokens = delta.completion_tokens
            transcript.finish_reason = delta.finish_reason
            yield delta


async def _once(known: Transcript) -> AsyncGenerator[TextDelta]:
    yield TextDelta(known.text, known.completion_tokens, known.finish_reason or "stop")
