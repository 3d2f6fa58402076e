"""What a recipe says about serving. Light: importing this imports neither Ray nor an engine."""

import ipaddress
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from heliostat.config import Config, Resources
from heliostat.serving.access.config import AccessConfig
from heliostat.serving.cache.config import CacheConfig
from heliostat.serving.engines.config import (
    AutoEngine,
    ChosenEngine,
    EngineConfig,
    OpenVINOEngineConfig,
    TransformersEngineConfig,
    VLLMEngineConfig,
)
from heliostat.serving.guard.config import GuardConfig
from heliostat.serving.retrieval.config import RetrievalConfig

__all__ = [
    "AccessConfig",
    "AdapterConfig",
    "AutoEngine",
    "CacheConfig",
    "CanaryConfig",
    "ChosenEngine",
    "EngineConfig",
    "GuardConfig",
    "OpenVINOEngineConfig",
    "RetrievalConfig",
    "ScalingConfig",
    "ServeConfig",
    "TransformersEngineConfig",
    "VLLMEngineConfig",
]

REPLICA_FIELDS = (
    "engine",
    "max_ongoing_requests",
    "max_loaded_adapters",
    "resources",
    "drain_timeout_seconds",
)
"""What replicas are made from; everything else, the adapters too, can be changed while they answer."""

GATEWAY_FIELDS = (
    "api_key_file",
    "access",
    "cache",
    "retrieval",
    "max_request_bytes",
    "num_gateways",
    "request_timeout_seconds",
)
"""What the first endpoint of a cluster decides for all."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class ScalingConfig(Config):
    """Between how many replicas, and when one more or fewer."""

    min_replicas: int = Field(default=1, ge=0)
    """0 lets an endpoint that is not asked rest; the next request waits until a replica has come up."""
    max_replicas: int = Field(default=2, ge=1)
    target_requests: float = Field(default=16, gt=0)
    """Requests that a replica is to have at a time."""
    target_kv_cache_usage: float = Field(default=0.8, gt=0, le=1)
    target_first_token_seconds: float | None = Field(default=None, gt=0)
    upscale_delay_seconds: float = Field(default=3, ge=0)
    downscale_delay_seconds: float = Field(default=60, ge=0)
    look_back_seconds: float = Field(default=5, gt=0)
    """What is looked at are means over so long."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"min_replicas={self.min_replicas} exceeds max_replicas={self.max_replicas}; "
                "lower the one or raise the other"
            )
        return self


class CanaryConfig(Config):
    """When a canary loses its share of itself, judged by the requests of the last minute."""

    min_requests: int = Field(default=50, ge=1)
    """Fewer are no reason."""
    max_error_rate_increase: float = Field(default=0.05, ge=0, le=1)
    """Above the others' share of failed requests."""
    max_p95_ratio: float = Field(default=2.0, ge=1)
    """Times the others' P95."""


class AdapterConfig(Config):
    """A LoRA adapter of the endpoint's model, asked for as `ENDPOINT:NAME`."""

    name: Name
    model: str = Field(min_length=1)
    """An adapter artifact (folder, URI or id), a version such as NAME@production (its own, or that of the
    model it was merged into), or a folder as PEFT saves it."""


class ServeConfig(Config):
    """One endpoint: a model, its engine, where it listens and how much it takes on."""

    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset({"startup_timeout_seconds", "weight"})

    name: Name | None = None
    """The model's name in the API; None takes the artifact's."""
    weight: float = Field(default=100, ge=0, le=100)
    """Percent of the requests for this version where the name is served already; below 100 it is a canary."""
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    """0 picks a free one."""
    api_key_file: str | None = None
    """A file with one accepted key a line; None lets everybody in who reaches the port."""
    engine: EngineConfig = AutoEngine()
    adapters: tuple[AdapterConfig, ...] = ()
    """LoRA adapters that requests can ask for; each replica loads one when it is first asked for."""
    max_loaded_adapters: int = Field(default=8, ge=1)
    """Adapters that a replica keeps; the one that was not used for longest makes room for another."""
    num_replicas: int = Field(default=1, ge=1)
    autoscaling: ScalingConfig | None = None
    """As many replicas as there is work for, in place of `num_replicas`."""
    canary: CanaryConfig = CanaryConfig()
    max_ongoing_requests: int = Field(default=128, ge=1)
    """Requests a replica takes on at once, those that wait in its engine included; more are refused (429)."""
    wait_for_replica_seconds: float = Field(default=60, gt=0)
    """How long a request waits for a replica to come up where there is none."""
    max_output_tokens: int = Field(default=4096, ge=1)
    """The most a request may ask for."""
    default_max_tokens: int = Field(default=512, ge=1)
    """What a request gets that does not say."""
    num_gateways: int = Field(default=1, ge=1)
    """Processes that share the port; one takes some 200 requests a second with everything switched on."""
    max_request_bytes: int = Field(default=4 * 2**20, ge=1024)
    body_timeout_seconds: float = Field(default=30, gt=0)
    """How long a client may take to send a request."""
    request_timeout_seconds: float = Field(default=600, gt=0)
    """How long an answer may take altogether."""
    access: AccessConfig = AccessConfig()
    guard: GuardConfig | None = None
    """What requests and answers are looked through for; `{}` takes the rules that come with Heliostat."""
    cache: CacheConfig = CacheConfig()
    retrieval: RetrievalConfig | None = None
    """With it the gateway keeps collections of documents."""
    resources: Resources = Resources()
    """What one replica of the engine reserves."""
    startup_timeout_seconds: float = Field(default=120, gt=0)
    drain_timeout_seconds: float = Field(default=30, ge=0)
    """How long answers under way may take to finish when a replica is stopped."""

    @property
    def gateway_settings(self) -> dict[str, Any]:
        """What holds for the gateway, and so for all endpoints behind it, as plain JSON values."""
        return {name: value for name, value in self.canonical().items() if name in GATEWAY_FIELDS}

    def same_replicas(self, other: "ServeConfig") -> bool:
        """Whether replicas made for the one config are those of the other."""
        return all(getattr(self, name) == getattr(other, name) for name in REPLICA_FIELDS)

    @property
    def embedder(self) -> str | None:
        """The one encoder for the semantic cache and for documents, where either is asked for."""
        if self.retrieval:
            return self.retrieval.embedder
        return self.cache.semantic.embedder if self.cache.semantic.enabled else None

    @property
    def may_rest(self) -> bool:
        """Whether it may have no replica while nobody asks."""
        return self.autoscaling is not None and self.autoscaling.min_replicas == 0

    @property
    def least_replicas(self) -> int:
        """Replicas that must be up for it to count as started; one that may rest has to show that it
        loads.
        """
        return max(1, self.autoscaling.min_replicas) if self.autoscaling else self.num_replicas

    @model_validator(mode="after")
    def _strangers_need_keys(self) -> Self:
        if not is_loopback(self.host) and self.api_key_file is None:
            raise ValueError(
                f"host {self.host} lets other machines in, so api_key_file is required: "
                "a file with one key a line (or use host 127.0.0.1)"
            )
        return self

    @model_validator(mode="after")
    def _adapters_can_be_told_apart(self) -> Self:
        names = [adapter.name for adapter in self.adapters]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"adapters: '{twice}' is there twice; give each adapter a name of its own")
        return self

    @model_validator(mode="after")
    def _engine_takes_adapters(self) -> Self:
        if self.adapters and isinstance(self.engine, VLLMEngineConfig) and not self.engine.max_adapters:
            raise ValueError(
                "adapters: engine vllm was told to serve none (max_adapters: 0); set engine.max_adapters to "
                "how many the requests of one step may use"
            )
        return self

    @model_validator(mode="after")
    def _one_embedder(self) -> Self:
        if self.retrieval and self.cache.semantic.enabled:
            ours, theirs = self.retrieval.embedder, self.cache.semantic.embedder
            if ours != theirs:
                raise ValueError(
                    f"retrieval.embedder {ours} and cache.semantic.embedder {theirs}: the gateway loads one; "
                    "name the same in both"
                )
        return self

    @model_validator(mode="after")
    def _default_within_limit(self) -> Self:
        if self.default_max_tokens > self.max_output_tokens:
            raise ValueError(
                f"default_max_tokens={self.default_max_tokens} exceeds "
                f"max_output_tokens={self.max_output_tokens}; lower the one or raise the other"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
