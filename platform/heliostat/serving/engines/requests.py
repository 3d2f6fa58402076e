"""Requests an engine is working on: where their tokens go, and whether it still makes progress."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

from heliostat.errors import ServingError
from heliostat.serving.engines.interface import EngineStats, FinishReason, TokenDelta, TokenLogprob

RATE_SECONDS = 10
"""Tokens a second are counted over this long."""


class Advance(NamedTuple):
    """What a step gave one request."""

    request_id: str
    token_ids: Sequence[int]
    finish_reason: FinishReason | None
    logprobs: Sequence[TokenLogprob] = ()


class TokenStream:
    """One request's tokens on their way to its reader; what piles up is delivered as one delta."""

    def __init__(self) -> None:
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._finish_reason: FinishReason | None = None
        self._error: ServingError | None = None
        self._ended = False
        self._news = asyncio.Event()
        self.started = False

    def put(self, advance: Advance) -> None:
        """Add tokens; a finish reason makes them the last."""
        self._token_ids += advance.token_ids
        self._logprobs += advance.logprobs
        self._finish_reason = advance.finish_reason
        self._ended = advance.finish_reason is not None
        self.started = True
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


class TokenRate:
    """Tokens a second over the last `RATE_SECONDS`, counted by the second."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque()

    def add(self, num_tokens: int, now: float) -> None:
        """Count tokens that came at `now`, a time in seconds that never goes back."""
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            num_tokens += self._seconds.pop()[1]
        self._seconds.append((second, num_tokens))
        self._forget(now)

    def per_second(self, now: float) -> float:
        """The mean rate; over less time when the first tokens are younger."""
        self._forget(now)
        if not self._seconds:
            return 0.0
        return sum(count for _, count in self._seconds) / max(1.0, now - self._seconds[0][0])

    def _forget(self, now: float) -> None:
        while self._seconds and self._seconds[0][0] < now - RATE_SECONDS:
            self._seconds.popleft()


class RequestTable:
    """The streams by request id, and the engine's heartbeat. Belongs to the event loop's thread."""

    def __init__(self, stall_timeout_seconds: float) -> None:
        self._streams: dict[str, TokenStream] = {}
        self._stall_timeout_seconds = stall_timeout_seconds
        self._last_step_at = time.monotonic()
        self._rate = TokenRate()
        self.failure: ServingError | None = None
        self.num_steps = 0
        self.num_generated_tokens = 0

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._streams

    def stats(self, kv_cache_usage: float | None = None) -> EngineStats:
        """A glance at the engine whose requests these are."""
        return EngineStats(
            num_requests=len(self._streams),
            num_steps=self.num_steps,
            num_generated_tokens=self.num_generated_tokens,
            kv_cache_usage=kv_cache_usage,
            num_waiting=sum(not stream.started for stream in self._streams.values()),
            tokens_per_second=self._rate.per_second(time.monotonic()),
        )

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

    def step(self, num_steps: int, advances: Sequence[Advance]) -> None:
        """Note progress, and hand each request that advanced its tokens."""
        self.num_steps = num_steps
        self._last_step_at = time.monotonic()
        num_tokens = 0
        for advance in advances:
            num_tokens += len(advance.token_ids)
            stream = self._streams.get(advance.request_id)
            if stream:
                stream.put(advance)
            if advance.finish_reason:
                self._streams.pop(advance.request_id, None)
        self.num_generated_tokens += num_tokens
        self._rate.add(num_tokens, self._last_step_at)

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
