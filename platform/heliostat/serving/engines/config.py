"""What a recipe says about engines. Light: importing this imports no engine."""

from typing import Annotated, ClassVar, Literal

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
    """Requests in one step; more wait in the engine."""
    prefix_caching: bool = True
    inference_precision: Literal["f32", "bf16"] = "f32"
    """bf16 reads long prompts faster on CPUs with AMX, and changes answers a little."""
    kv_cache_precision: Literal["f16", "u8"] = "f16"
    """u8 halves the cache's memory; a request's answer then depends on which others run beside it."""
    dynamic_quantization_group_size: int = Field(default=32, ge=0)
    """With weights in INT8 or INT4, so many activations of a row share a scale; 0 leaves them as they are.
    A large group that divides the layers' widths is faster and changes answers more."""
    stall_timeout_seconds: float = Field(default=60, gt=0)
    """With requests waiting and no step in this time, the engine counts as hung and is restarted."""


class TransformersEngineConfig(Config):
    """Plain transformers in fp32, one request at a time: the reference, for any architecture."""

    kind: Literal["transformers"] = "transformers"
    num_threads: int | None = Field(default=None, ge=1)
    """Threads that compute; None takes all cores of the node."""
    stall_timeout_seconds: float = Field(default=60, gt=0)
    """With requests waiting and no step in this time, the engine counts as hung and is restarted."""


class VLLMEngineConfig(Config):
    """vLLM, in a process under an interpreter that has it; for models as they were trained, mostly on GPUs.

    What is None is left to vLLM.
    """

    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset({"python"})

    kind: Literal["vllm"] = "vllm"
    python: str
    """An interpreter with vllm installed, by name or path: vLLM needs other versions of torch and
    transformers than Heliostat, so it lives in an environment of its own on each node."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto` takes the folder's; a float32 folder is served in a half precision."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    """GPUs that share the model."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Share of a GPU's memory for weights and cache."""
    cache_size_gb: int | None = Field(default=None, ge=1)
    """Memory for keys and values; on a CPU None takes half of the memory."""
    max_context_tokens: int | None = Field(default=None, ge=16)
    """The longest prompt and answer together, where the cache cannot hold what the model was built for."""
    max_num_batched_tokens: int | None = Field(default=None, ge=16)
    max_num_seqs: int = Field(default=64, ge=1)
    prefix_caching: bool = True
    compile: bool = True
    """Compile the model at start, which takes minutes the first time; false starts sooner and runs slower."""
    num_threads: int | None = Field(default=None, ge=1)
    """On a CPU: threads that compute; None takes all cores of the node."""
    max_adapters: int = Field(default=0, ge=0)
    """Adapters that requests of one step may use; 0 serves none."""
    max_adapter_rank: Literal[8, 16, 32, 64, 128, 256] = 16
    stall_timeout_seconds: float = Field(default=60, gt=0)
    """With requests waiting and no step in this time, the engine counts as hung and is restarted."""


ChosenEngine = OpenVINOEngineConfig | TransformersEngineConfig | VLLMEngineConfig
EngineConfig = Annotated[AutoEngine | ChosenEngine, Field(discriminator="kind")]
