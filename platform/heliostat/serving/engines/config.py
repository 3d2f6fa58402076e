"""What a recipe says about engines. Light: importing this imports no engine."""

from typing import Annotated, Literal

from pydantic import Field

from heliostat.config import Config


class AutoEngine(Config):
    """The engine that fits the artifact: openvino for a quantized one, transformers for a model."""

    kind: Literal["auto"] = "auto"


class OpenVINOEngineConfig(Config):
    """openvino-genai's continuous batching on CPU, for folders that the compression stage exported."""

    kind: Literal["openvino"] = "openvino"
    num_threads: int | None = Field(default=None, ge=1)
    """Threads that compute; None takes all cores of the node."""
    cache_size_gb: int = Field(default=1, ge=1)
    """Memory for keys and values of all running requests and of the prefixes kept."""
    max_num_batched_tokens: int = Field(default=256, ge=16)
    """Tokens in one step; long prompts are read in pieces of this size while others go on answering."""
    max_num_seqs: int = Field(default=64, ge=1)
    prefix_caching: bool = True
    inference_precision: Literal["f32", "bf16"] = "f32"
    """bf16 reads long prompts faster on CPUs with AMX, and changes answers a little."""
    kv_cache_precision: Literal["f16", "u8"] = "f16"
    """u8 halves the cache's memory; a request's answer then depends on which others run beside it."""
    stall_timeout_seconds: float = Field(default=60, gt=0)
    """With requests waiting and no step in this time, the engine counts as hung and is restarted."""


class TransformersEngineConfig(Config):
    """Plain transformers in fp32, one request at a time: the reference, for any architecture."""

    kind: Literal["transformers"] = "transformers"
    num_threads: int | None = Field(default=None, ge=1)
    """Threads that compute; None takes all cores of the node."""
    stall_timeout_seconds: float = Field(default=60, gt=0)
    """With requests waiting and no step in this time, the engine counts as hung and is restarted."""


EngineConfig = Annotated[
    AutoEngine | OpenVINOEngineConfig | TransformersEngineConfig, Field(discriminator="kind")
]
