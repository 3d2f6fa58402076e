"""A guard's judgement on a request, as the gateway acts on it."""

import asyncio
from collections.abc import Sequence

import httpx

from heliostat.serving.api.chat_request import ChatCompletionRequest
from heliostat.serving.api.errors import RefusedRequest
from heliostat.serving.api.reviewing import from_outside, with_texts
from heliostat.serving.api.text_requests import CompletionRequest
from heliostat.serving.gateway.context import RequestContext
from heliostat.serving.gateway.metrics import GatewayMetrics
from heliostat.serving.guard.guard import Guard, InputReview
from heliostat.serving.guard.review_queue import ReviewQueue
from heliostat.serving.guard.rules import Finding

NO_RETRY = {"x-should-retry": "false"}
CODE = "content_policy_violation"
REJECTED = "The request was rejected as a result of the safety system"
"""OpenAI's code and words, by which clients know that another request might be answered."""
Asked = ChatCompletionRequest | CompletionRequest


class Guarding:
    """Reviews requests; one for the gateway, whatever their guards."""

    def __init__(self, metrics: GatewayMetrics, queue: ReviewQueue | None) -> None:
        """Without a queue, what a rule would have held for review is refused."""
        self._metrics = metrics
        self._queue = queue
        self._client: httpx.AsyncClient | None = None

    async def review(
        self, asked: Asked, texts: Sequence[str], guard: Guard, context: RequestContext, tokenizer: object
    ) -> Asked:
        """The request with what is redacted out of it; a developer's own words are not looked at.

        Raises:
            RefusedRequest: a rule blocks it, or holds it for a person's decision.
        """
        outside = from_outside(asked)
        looked_at = [text for text, foreign in zip(texts, outside, strict=True) if foreign]
        if guard.requests.moderators and self._client is None:
            self._client = httpx.AsyncClient()
        review = await guard.review(looked_at, self._client)
        for finding in review.findings:
            self.count(finding)
        if review.blocked:
            context.rule = review.blocked.rule
            raise blocked(review.blocked)
        if review.held:
            context.rule = review.held[0]
            await self._hold(review, looked_at, context)
        passed = iter(review.texts)
        reviewed = [next(passed) if foreign else text for text, foreign in zip(texts, outside, strict=True)]
        if isinstance(asked, ChatCompletionRequest):
            return with_texts(asked, reviewed, tokenizer)
        return with_texts(asked, reviewed, tokenizer)

    def count(self, finding: Finding) -> None:
        """A rule found something."""
        self._metrics.filtered(finding.rule, "dry_run" if finding.dry_run else finding.action)

    async def close(self) -> None:
        """Let go of the connections to moderators."""
        if self._client:
            await self._client.aclose()

    async def _hold(self, review: InputReview, texts: Sequence[str], context: RequestContext) -> None:
        if self._queue is None:
            raise RefusedRequest(
                f"This request needs review by a person (rule {review.held[0]}), and there is no queue",
                CODE,
                headers=NO_RETRY,
            )
        tenant, model = context.asker.tenant, context.model or ""
        item = await asyncio.to_thread(self._queue.ask, tenant, model, texts, review.held)
        if item.status == "approved":
            return
        state = "was rejected" if item.status == "rejected" else "waits for a person's review"
        reason = f": {item.reason}" if item.reason else ""
        raise RefusedRequest(
            f"This request {state} (review {item.id[:12]}){reason}", CODE, 403, headers=NO_RETRY
        )


def blocked(finding: Finding) -> RefusedRequest:
    """A rule refuses a request."""
    return RefusedRequest(f"{REJECTED}: the rule '{finding.rule}' forbids it", CODE, headers=NO_RETRY)
