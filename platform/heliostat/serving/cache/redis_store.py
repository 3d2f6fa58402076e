"""Exact answers that several gateways share, in Redis. Redis down, slow or lying is a miss, never an error.

Values are JSON and are validated like any other input. Keys hold digests only: no tenant, no text.
"""

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from heliostat.errors import ConfigError, ServingError
from heliostat.serving.cache.answers import CacheCounts, CachedAnswer
from heliostat.serving.cache.config import CacheConfig
from heliostat.serving.cache.question import Question

PREFIX = "heliostat:answer"
MAX_VALUE_BYTES = 2**20
REST_SECONDS = 1.0
"""Behind a failure Redis is left alone for so long, so that a slow one does not slow every request."""
PURGE_TIMEOUT_SECONDS = 10.0
logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class _Value(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    format: Literal[1] = 1
    key: str
    text: str
    finish_reason: Literal["stop", "length", "tool_calls"]
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    created: float = Field(ge=0)


class RedisStore:
    """The answers below one prefix of a Redis server."""

    def __init__(self, config: CacheConfig, counts: CacheCounts) -> None:
        """The server is not asked for anything yet.

        Raises:
            ConfigError: the environment variable that is to hold the password is not set.
        """
        assert config.redis_url
        self._ttl_seconds = config.ttl_seconds
        self._timeout_seconds = config.redis_timeout_seconds
        self._counts = counts
        self._rests_until = 0.0
        self._redis = Redis.from_url(
            config.redis_url,
            password=_password(config.redis_password_env),
            socket_timeout=PURGE_TIMEOUT_SECONDS,  # each call has its own, shorter one
            retry=Retry(NoBackoff(), 0),
            max_connections=64,
        )

    async def find(self, question: Question) -> CachedAnswer | None:
        """The answer to this very question, not older than the time it may live."""
        key = _key_of(question)
        content = await self._ask(lambda: self._redis.getrange(key, 0, MAX_VALUE_BYTES))
        if not content:
            return None
        try:
            value = _Value.model_validate_json(content)
        except ValidationError:
            value = None
        if value is None or value.key != question.key:
            self._counts.redis_invalid += 1
            return None
        if time.time() - value.created >= self._ttl_seconds:
            return None
        return CachedAnswer(
            value.text, value.finish_reason, value.prompt_tokens, value.completion_tokens, value.created
        )

    async def keep(self, question: Question, answer: CachedAnswer) -> None:
        """Share an answer; one of more than a mebibyte is not shared."""
        value = _Value(
            key=question.key,
            text=answer.text,
            finish_reason=answer.finish_reason,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            created=answer.created,
        )
        content = value.model_dump_json().encode()
        milliseconds = int(self._ttl_seconds * 1000)
        if len(content) <= MAX_VALUE_BYTES and milliseconds >= 1:
            await self._ask(lambda: self._redis.set(_key_of(question), content, px=milliseconds))

    async def purge(self, tenant: str | None, model: str | None) -> int:
        """Forget the answers of a tenant, of a model, or of one at the other; how many they were.

        Raises:
            ServingError: Redis does not answer, so that some may still be there.
        """
        owner = "*" if tenant is None else _digest(tenant)
        source = "*" if model is None else _digest(model)
        num_gone = 0
        try:
            async with asyncio.timeout(PURGE_TIMEOUT_SECONDS):
                async for key in self._redis.scan_iter(f"{PREFIX}:{owner}:{source}:*", count=1000):
                    num_gone += int(await self._redis.unlink(key))
        except (RedisError, OSError, TimeoutError) as error:
            raise ServingError(
                f"Redis does not answer ({type(error).__name__}), so answers may be left in it; "
                f"purge again, or wait {self._ttl_seconds:g} seconds until the last is forgotten"
            ) from error
        return num_gone

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose()

    async def _ask(self, call: Callable[[], Awaitable[_T]]) -> _T | None:
        """The reply to a command; None when there is none in time."""
        if time.monotonic() < self._rests_until:
            return None
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await call()
        except (RedisError, OSError, TimeoutError) as error:
            self._counts.redis_failures += 1
            self._rests_until = time.monotonic() + REST_SECONDS
            logger.warning("Redis is left alone for %g s: %s", REST_SECONDS, type(error).__name__)
            return None


def _key_of(question: Question) -> str:
    return f"{PREFIX}:{_digest(question.tenant)}:{_digest(question.model)}:{question.key}"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _password(variable: str | None) -> str | None:
    if variable is None:
        return None
    if variable not in os.environ:
        raise ConfigError(f"redis_password_env: the environment variable {variable} is not set; set it")
    return os.environ[variable]
