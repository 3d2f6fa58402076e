"""Requests an engine is working on: where their tokens go, and whether it still makes progress."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from heliostat.errors import ServingError
from heliostat.serving.engines.interface import FinishReason, TokenDelta, TokenLogprob


class TokenStream:
    """One request's tokens on their way to its reader; what piles up is delivered as one delta."""

    def __init__(self) -> None:
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._finish_reason: FinishReason | None = None
        self._error: ServingError | None = None
        self._ended = False
        self._news = asyncio.Event()

    def put(
        self,
        token_ids: list[int],
        finish_reason: FinishReason | None,
        logprobs: Sequence[TokenLogprob] = (),
    ) -> None:
        """Add tokens; a finish reason makes them the last."""
        self._token_ids += token_ids
        self._logprobs += logprobs
        self._finish_reason = finish_reason
        self._ended = finish_reason is not None
        self._news.set()

    def end(self, error: ServingError | None = None) -> None:
        """End without a finish reason; the reader gets what is there, then the error if there is one."""
        self._error = error
        self._ended = True
        self._news.set()

    async def deltas(self) -> AsyncGenerator[TokenDelta]:
        """Deltas until the stream ends."""
        while True:
            await self._news.wait()
            self._news.clear()
            ended, token_ids, self._token_ids = self._ended, tuple(self._token_ids), []
            logprobs, self._logprobs = tuple(self._logprobs), []
            if token_ids or self._finish_reason:
                yield TokenDelta(token_ids, self._finish_reason, logprobs)
            if ended:
                break
        if self._error:
            raise self._error


class RequestTable:
    """The streams by request id, and the engine's heartbeat. Belongs to the event loop's thread."""

    def __init__(self, stall_timeout_seconds: float) -> None:
        self._streams: dict[str, TokenStream] = {}
        self._stall_timeout_seconds = stall_timeout_seconds
        self._last_step_at = time.monotonic()
        self.failure: ServingError | None = None
        self.num_steps = 0
        self.num_generated_tokens = 0

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._streams

    def open(self, request_id: str) -> TokenStream:
        """A stream for a new request.

        Raises:
            ServingError: the engine is gone, or the id is taken.
        """
        if self.failure:
            raise self.failure
        if request_id in self._streams:
            raise ServingError(
                f"request {request_id} is already going on; give each request an id of its own"
            )
        if not self._streams:
            self._last_step_at = time.monotonic()  # idleness is no stall
        return self._streams.setdefault(request_id, TokenStream())

    def step(self, num_steps: int, tokens: list[Any]) -> None:
        """Note progress; `tokens` has (request id, token ids, finish reason) for each that advanced.

        Behind them may be its logprobs: (logprob, the likeliest as (token id, logprob)) for each id.
        """
        self.num_steps = num_steps
        self._last_step_at = time.monotonic()
        for request_id, token_ids, finish_reason, *more in tokens:
            self.num_generated_tokens += len(token_ids)
            stream = self._streams.get(request_id)
            if stream:
                rows = more[0] if more and more[0] else ()
                logprobs = [TokenLogprob(value, tuple((i, p) for i, p in top)) for value, top in rows]
                stream.put(token_ids, finish_reason, logprobs)
            if finish_reason:
                self._streams.pop(request_id, None)

    def end(self, request_id: str, error: ServingError | None = None) -> bool:
        """End a request's stream; False when it had ended before."""
        stream = self._streams.pop(request_id, None)
        if stream:
            stream.end(error)
        return stream is not None

    def fail(self, error: ServingError) -> None:
        """The engine is gone: end every request and refuse new ones."""
        self.failure = self.failure or error
        for request_id in list(self._streams):
            self.end(request_id, error)

    def check_health(self) -> None:
        """Raise ServingError when the engine is gone or hangs; a long queue alone is not unhealthy."""
        if self.failure:
            raise self.failure
        idle = time.monotonic() - self._last_step_at
        if self._streams and idle > self._stall_timeout_seconds:
            raise ServingError(
                f"the engine made no step for {idle:.0f} s with {len(self._streams)} requests waiting; "
                "it will be restarted"
            )
