"""Answers that were given before, as the gateway asks for them and keeps them."""

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import orjson

from heliostat.serving.api.cache_view import cache_view
from heliostat.serving.api.orders import Job
from heliostat.serving.api.reply import Transcript
from heliostat.serving.cache.answers import CachedAnswer, Hit
from heliostat.serving.cache.question import Place, Question
from heliostat.serving.cache.response_cache import ResponseCache
from heliostat.serving.gateway.choosing import Chosen
from heliostat.serving.gateway.context import RequestContext

MOST_RECALLED = 1000
DECIDED_ELSEWHERE = ("tools", "retrieval", "logprobs")
NO_MATTER = ("stream", "stream_options", "user", "metadata", "store")


@dataclass(frozen=True)
class Recalled:
    """What reviewing and rendering a request came to the last time."""

    question: Question
    prompt_tokens: int


class KeptAnswers:
    """A cache, and the keeping of answers behind their requests' back.

    Requests that are the same to the letter need not be reviewed and rendered again to be found: what they
    came to is remembered, by all that decides about it, the guard's rules among that.
    """

    def __init__(self, cache: ResponseCache) -> None:
        self.cache = cache
        self._keeping: set[asyncio.Task[None]] = set()
        self._recalled: OrderedDict[bytes, Recalled] = OrderedDict()

    def recall(self, request: bytes) -> Recalled | None:
        """What a request came to, by its `request_key`."""
        found = self._recalled.get(request)
        if found:
            self._recalled.move_to_end(request)
        return found

    def remember(self, request: bytes, question: Question, prompt_tokens: int) -> None:
        """Note what a request came to."""
        self._recalled[request] = Recalled(question, prompt_tokens)
        if len(self._recalled) > MOST_RECALLED:
            self._recalled.popitem(last=False)

    def question(
        self, job: Job, chosen: Chosen, context: RequestContext, filter_version: str
    ) -> Question | None:
        """A request in the cache's words; None where its answer cannot be kept."""
        view = cache_view(job)
        if not view.fits:
            return None
        place = Place(
            context.asker.tenant,
            chosen.endpoint,
            f"{chosen.artifact_id} {chosen.version}",
            chosen.model.adapter,
        )
        return Question.of(
            place, list(view.conversation), view.parameters, view.system_prompt, filter_version
        )

    async def find(self, question: Question) -> Hit | None:
        """The answer to a question that says the same."""
        return await self.cache.find(question)

    def keep(self, question: Question, made: Transcript, prompt_tokens: int) -> None:
        """Keep a finished answer, soon; one that a filter cut off is not."""
        reason = made.finish_reason
        if reason is None or reason == "content_filter":
            return
        answer = CachedAnswer(made.text, reason, prompt_tokens, made.completion_tokens)
        task = asyncio.create_task(self.cache.keep(question, answer))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def close(self) -> None:
        """Keep what is being kept, and let go."""
        await asyncio.gather(*self._keeping, return_exceptions=True)
        await self.cache.close()


def request_key(body: dict[str, object], chosen: Chosen, tenant: str) -> bytes | None:
    """What a request is remembered by; None where more than its letters decides, or its answer is not
    kept.
    """
    guard = chosen.guard
    if guard and (guard.requests.moderators or guard.holds_requests):
        return None
    if any(body.get(name) for name in DECIDED_ELSEWHERE) or body.get("n") not in (None, 1):
        return None
    letters = {name: value for name, value in body.items() if name not in NO_MATTER}
    answering = [chosen.endpoint, chosen.artifact_id, chosen.version, chosen.model.adapter]
    place = [tenant, *answering, guard.version if guard else ""]
    try:
        written = orjson.dumps([place, letters], option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError):  # an integer of more than 64 bits
        return None
    return hashlib.sha256(written).digest()


def to_transcript(hit: Hit) -> Transcript:
    """A kept answer as the reply wants it."""
    answer = hit.answer
    return Transcript(answer.text, answer.completion_tokens, answer.finish_reason)
