"""Arithmetic that a training step takes, and the seconds it takes on some devices."""

from heliostat.training.adapter_config import FreezeAdapter
from heliostat.training.config import TrainConfig
from heliostat.training.model_shape import ModelShape
from heliostat.training.plan_activations import Batch
from heliostat.training.plan_devices import Device
from heliostat.training.plan_parameters import trainable_parameters


def step_flops(config: TrainConfig, shape: ModelShape, batch: Batch, added_tokens: int = 0) -> float:
    """Floating-point operations of one optimizer step over a batch.

    Two for each weight and token on the way forward, twice that on the way back (Kaplan et al., 2020,
    arXiv:2001.08361, section 2.1); frozen weights need no gradient of their own, which halves the way back.
    Attention over the whole length is added, and the output counts where a label is.
    """
    forward = _forward_flops(shape, batch)
    trained = trainable_parameters(config.adapter, shape, added_tokens)
    if config.adapter.kind == "full":
        backward = 2 * forward
    elif isinstance(config.adapter, FreezeAdapter):
        backward = 2 * forward * (1 - config.adapter.num_layers / shape.num_layers)
    else:
        backward = forward + 2 * trained * batch.tokens
    again = forward if config.layout.activation_checkpointing else 0
    return forward + backward + again


def step_seconds(config: TrainConfig, flops: float, device: Device) -> float | None:
    """Seconds that all workers take for a step on such devices; None where they lack the precision.

    Exchanges between workers are not counted. A pipeline waits while it fills and empties (Huang et al.,
    2019, arXiv:1811.06965).
    """
    peak = device.tflops.get(config.layout.precision)
    if peak is None:
        return None
    stages, batches = config.layout.pipeline_parallel, config.micro_batches(config.max_workers)
    waiting = (batches + stages - 1) / batches
    return flops * waiting / (config.max_workers * peak * 1e12 * device.utilisation)


def _forward_flops(shape: ModelShape, batch: Batch) -> float:
    table = shape.vocab_size * shape.hidden_size
    inside = shape.active_parameters - table * (1 if shape.tied_embeddings else 2)
    attention = 4 * batch.length * shape.query_size * shape.num_layers
    return float(batch.tokens * (2 * inside + attention) + 2 * batch.labels * table)
