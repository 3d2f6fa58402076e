"""What a model allows of a layout, told from its config alone, and which part of it each worker holds.

What can be told without the model is refused in `layout_config.py` and `config.py`. Nothing is loaded here.
"""

from dataclasses import dataclass

from heliostat.errors import ConfigError
from heliostat.training.adapter_config import FreezeAdapter, LoraAdapter
from heliostat.training.config import TrainConfig, nearest_divisor
from heliostat.training.layout_config import LayoutConfig
from heliostat.training.model_shape import EXACT, LATENT, LLAMA_LIKE, ModelShape

PIPELINE_TYPES = LLAMA_LIKE
"""Decoders of embed_tokens, layers, norm, rotary_emb and lm_head, which can be cut into stages."""
EXPERT_TYPES = frozenset({"deepseek_v2", "deepseek_v3", "mixtral", "qwen2_moe", "qwen3_moe"})
"""What DeepSpeed 0.19.8's AutoEP has presets for (module_inject/auto_ep_presets), as far as planned here."""


@dataclass(frozen=True)
class Coordinates:
    """Where a worker stands in each direction; all from 0. `replica` says which copy of the model."""

    replica: int
    tensor: int
    pipeline: int
    sequence: int
    expert: int


def check_placement(config: TrainConfig, shape: ModelShape, max_sequence_length: int | None = None) -> None:
    """Refuse what this model cannot do under this config, before a cluster is asked for anything.

    Raises:
        ConfigError: one line: what does not go together, and the nearest that does.
    """
    _check_tensor(config.layout, shape)
    _check_pipeline(config.layout, shape)
    _check_sequence(config.layout, shape)
    _check_experts(config, shape)
    _check_adapter(config, shape)
    if max_sequence_length is not None and max_sequence_length > shape.max_positions:
        raise ConfigError(
            f"data.tokenize.max_sequence_length: {max_sequence_length} is more than the "
            f"{shape.max_positions} positions of the model; the nearest is {shape.max_positions}"
        )


def coordinates(rank: int, layout: LayoutConfig, num_workers: int) -> Coordinates:
    """The place of one worker, in DeepSpeed's order of ranks.

    Tensor or sequence ranks are neighbours, replicas come next, and pipeline stages are furthest apart:
    PipeModelDataParallelTopology's axes pipe, data, model. Expert ranks are neighbours among the replicas.
    """
    within = layout.tensor_parallel * layout.sequence_parallel
    replicas = num_workers // layout.model_parallel
    replica = rank // within % replicas
    return Coordinates(
        replica=replica,
        tensor=rank % layout.tensor_parallel,
        pipeline=rank // (within * replicas),
        sequence=rank // layout.tensor_parallel % layout.sequence_parallel,
        expert=replica % layout.expert_parallel,
    )


def head_shares(shape: ModelShape, tensor_parallel: int) -> tuple[int, ...]:
    """Key-value heads that each of the tensor ranks holds, as AutoTP cuts them: as even as whole heads go."""
    each, rest = divmod(shape.num_key_value_heads, tensor_parallel)
    return tuple(each + (rank < rest) for rank in range(tensor_parallel))


def _check_tensor(layout: LayoutConfig, shape: ModelShape) -> None:
    """AutoTP takes any number of heads: uneven shares, and even ranks without one, sum up to the same result.

    What it does not know is how to cut fused experts and low-rank attention: it raises on their plans.
    """
    if layout.tensor_parallel == 1:
        return
    if shape.experts or shape.model_type in LATENT:
        divisor = nearest_divisor(shape.experts.num_experts if shape.experts else 1, layout.tensor_parallel)
        raise ConfigError(
            f"train.layout.tensor_parallel: DeepSpeed cannot cut the experts or the attention of a "
            f"{shape.model_type} model; the nearest is expert_parallel: {divisor} with tensor_parallel: 1"
        )
    if layout.tensor_parallel > shape.num_heads:
        raise ConfigError(
            f"train.layout.tensor_parallel: {layout.tensor_parallel} is more than the model's "
            f"{shape.num_heads} attention heads; the nearest is its key-value heads, "
            f"tensor_parallel: {shape.num_key_value_heads}"
        )


def _check_pipeline(layout: LayoutConfig, shape: ModelShape) -> None:
    stages = layout.pipeline_parallel
    if stages == 1:
        return
    if shape.model_type not in PIPELINE_TYPES:
        nearest = "expert_parallel" if shape.experts else "zero: {stage: 3}"
        raise ConfigError(
            f"train.layout.pipeline_parallel: a {shape.model_type} model has no pipeline form, only "
            f"{', '.join(sorted(PIPELINE_TYPES))} have; the nearest is {nearest}"
        )
    if stages > shape.num_layers:
        raise ConfigError(
            f"train.layout.pipeline_parallel: {stages} stages for {shape.num_layers} layers leave stages "
            f"without one; the nearest is pipeline_parallel: {shape.num_layers}"
        )


def _check_sequence(layout: LayoutConfig, shape: ModelShape) -> None:
    """Each worker attends with some of the heads, as many as the others."""
    if layout.sequence_parallel > 1 and shape.num_heads % layout.sequence_parallel:
        raise ConfigError(
            f"train.layout.sequence_parallel: {layout.sequence_parallel} does not divide the model's "
            f"{shape.num_heads} attention heads; the nearest is sequence_parallel: "
            f"{nearest_divisor(shape.num_heads, layout.sequence_parallel)}"
        )


def _check_experts(config: TrainConfig, shape: ModelShape) -> None:
    wanted = config.layout.expert_parallel
    if wanted == 1:
        return
    if shape.experts is None:
        raise ConfigError(
            f"train.layout.expert_parallel: {wanted} shares experts, and this {shape.model_type} model has "
            "none; the nearest is zero: {stage: 3}"
        )
    if shape.model_type not in EXPERT_TYPES:
        raise ConfigError(
            "train.layout.expert_parallel: DeepSpeed shares the experts of "
            f"{', '.join(sorted(EXPERT_TYPES))} models, not of {shape.model_type}; "
            "the nearest is zero: {stage: 3}"
        )
    if shape.experts.num_experts % wanted:
        replicas = config.replicas(config.max_workers)
        possible = [each for each in _divisors(replicas) if shape.experts.num_experts % each == 0]
        nearest = min(possible, key=lambda each: (abs(each - wanted), each))
        raise ConfigError(
            f"train.layout.expert_parallel: {wanted} does not divide the model's "
            f"{shape.experts.num_experts} experts; the nearest for {replicas} replica(s) is "
            f"expert_parallel: {nearest}"
        )


def _check_adapter(config: TrainConfig, shape: ModelShape) -> None:
    adapter = config.adapter
    if isinstance(adapter, FreezeAdapter) and adapter.num_layers >= shape.num_layers:
        raise ConfigError(
            f"train.adapter.num_layers: {adapter.num_layers} frozen layers leave none of the model's "
            f"{shape.num_layers} to train; the most is num_layers: {shape.num_layers - 1}"
        )
    if isinstance(adapter, LoraAdapter) and shape.model_type in EXACT:
        known = {linear.name for linear in shape.linears()} | {"embed_tokens", "lm_head"}
        unknown = sorted(set(adapter.target_modules) - known)
        if unknown:
            raise ConfigError(
                f"train.adapter.target_modules: a {shape.model_type} model has no layer called "
                f"{', '.join(unknown)}; it has {', '.join(sorted(known))}"
            )


def _divisors(number: int) -> list[int]:
    return [each for each in range(1, number + 1) if number % each == 0]
