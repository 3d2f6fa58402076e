"""Memory that one worker needs, from the config and the model's shape alone. Pure arithmetic.

Mixed precision keeps 2 bytes a weight and 2 a gradient, and in float32 a master copy and Adam's two moments;
ZeRO splits the last three, from stage 2 on the gradients, at stage 3 the weights (Rajbhandari et al., 2020,
arXiv:1910.02054, section 3). In float32 ZeRO still keeps a master copy, of what a worker steps for.
"""

from dataclasses import dataclass

from heliostat.training.config import TrainConfig
from heliostat.training.layout import deepspeed_config
from heliostat.training.model_shape import ModelShape
from heliostat.training.plan_activations import (
    FLOAT32,
    Batch,
    kept_bytes,
    logits_bytes,
    number_bytes,
    recomputed_bytes,
)
from heliostat.training.plan_parameters import Share, shares

BUCKET_ELEMENTS = 500_000_000
"""DeepSpeed's own reduce_bucket_size, taken where its JSON says nothing else."""
LIVE_PARAMETERS = 1_000_000_000
"""DeepSpeed's own stage3_max_live_parameters: weights that a worker may hold gathered at once."""


@dataclass(frozen=True)
class WorkerMemory:
    """Bytes on one worker of a pipeline stage: on its device, and what is offloaded to the host."""

    stage: int
    weights: int
    gradients: int
    optimizer: int
    activations: int
    buffers: int
    """Buckets in which gradients travel; on CPU workers they are reserved but never filled."""
    transients: dict[str, int]
    """What comes and goes, by name: logits, a layer computed again, gathered weights, the step."""
    host: int

    @property
    def largest_transient(self) -> str:
        """The transient that the peak has room for."""
        return max(self.transients, key=lambda name: self.transients[name] + self._beside(name))

    @property
    def peak(self) -> int:
        """The most that the device holds at once."""
        name = self.largest_transient
        kept = self.weights + self.gradients + self.optimizer + self.buffers
        return kept + self._beside(name) + self.transients[name]

    def _beside(self, name: str) -> int:
        """Activations are gone when the optimizer steps."""
        return 0 if name == "step" else self.activations


def memory_of_workers(
    config: TrainConfig, shape: ModelShape, batch: Batch, added_tokens: int = 0
) -> tuple[WorkerMemory, ...]:
    """What a worker of each pipeline stage needs; `batch` is one micro batch of a replica."""
    stages = shares(config, shape, added_tokens)
    return tuple(_of_stage(config, shape, batch, at, share) for at, share in enumerate(stages))


def largest(workers: tuple[WorkerMemory, ...]) -> WorkerMemory:
    """The worker that needs most on its device."""
    return max(workers, key=lambda each: each.peak)


def _of_stage(config: TrainConfig, shape: ModelShape, batch: Batch, at: int, share: Share) -> WorkerMemory:
    zero, numbers = config.layout.zero, number_bytes(config)
    weights = numbers * _split(config, share.dense, share.experts, zero.stage >= 3)
    gradients = numbers * _split(config, share.trainable_dense, share.trainable_experts, zero.stage >= 2)
    stepped = _split(config, share.trainable_dense, share.trainable_experts, zero.stage >= 1)
    master = FLOAT32 * stepped if numbers < FLOAT32 or zero.stage else 0
    optimizer = 2 * FLOAT32 * stepped + master
    host = 0
    if zero.offload_optimizer:  # the gradients of what is stepped for go along, in float32
        host += optimizer + FLOAT32 * stepped
        optimizer, gradients = 0, gradients if zero.stage < 2 else 0
    if zero.offload_parameters:
        host += weights
        weights = 0
    in_flight = min(config.layout.pipeline_parallel - at, config.micro_batches(config.max_workers))
    transients = {
        "logits": logits_bytes(config, shape, batch) if share.has_output else 0,
        "recomputed layer": recomputed_bytes(config, shape, share, batch),
        "step": 0 if zero.offload_optimizer else FLOAT32 * stepped * (2 if master else 1),
    }
    if zero.stage == 3:
        transients["gathered weights"] = numbers * min(share.dense, LIVE_PARAMETERS)
    return WorkerMemory(
        stage=at,
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=max(1, in_flight) * kept_bytes(config, shape, share, batch),
        buffers=_buffers(config, numbers),
        transients=transients,
        host=host,
    )


def _split(config: TrainConfig, dense: int, experts: int, over_replicas: bool) -> int:
    """Parameters left on a worker when replicas share them; experts have fewer workers that hold the same."""
    if not over_replicas:
        return dense + experts
    replicas = config.replicas(config.max_workers)
    same_experts = max(1, replicas // config.layout.expert_parallel)
    return -(-dense // (replicas * config.layout.sequence_parallel)) + -(-experts // same_experts)


def _buffers(config: TrainConfig, numbers: int) -> int:
    """DeepSpeed reserves whole buckets whatever the model's size; two where reducing overlaps computing."""
    if not config.use_gpu or config.layout.zero.stage == 0:
        return 0
    settings = deepspeed_config(config)["zero_optimization"]
    elements = int(settings.get("reduce_bucket_size", BUCKET_ELEMENTS))
    return numbers * elements * (2 if settings.get("overlap_comm") and config.layout.zero.stage < 3 else 1)
