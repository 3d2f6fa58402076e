"""Bytes that one micro batch keeps for its backward pass, in this loop's own forward pass. Pure arithmetic.

The count goes operation by operation, as Korthikanti et al. do (2022, "Reducing Activation Recomputation in
Large Transformer Models", arXiv:2205.05198, section 4.1), with what differs here: gated feed-forward blocks,
RMS norms that work in float32, grouped keys, attention that keeps no scores (torch's sdpa), no dropout, and
logits only where a label is. Where documents are packed, sdpa gets a mask, which costs a copy of the keys
and values for all heads and a matrix of length x length in every layer.

Not counted: on CPUs, documents of middle length keep their attention's probabilities (`causal_attention.py`).
"""

from dataclasses import dataclass

from heliostat.training.adapter_config import FreezeAdapter, LoraAdapter
from heliostat.training.config import TrainConfig
from heliostat.training.model_shape import Linear, ModelShape
from heliostat.training.plan_parameters import Share

FLOAT32 = 4


def number_bytes(config: TrainConfig) -> int:
    """Bytes of one number of the activations. In fp8 only the products inside matrices are smaller."""
    return FLOAT32 if config.layout.precision == "fp32" else 2


@dataclass(frozen=True)
class Batch:
    """What a worker has at once: rows of so many tokens, labels in them, and whether rows hold documents."""

    rows: int
    length: int
    labels: int
    packed: bool = True

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return self.rows * self.length


def layer_bytes(config: TrainConfig, shape: ModelShape, layer: int, batch: Batch) -> int:
    """What one layer keeps for its backward pass, on one worker."""
    numbers, cut = number_bytes(config), config.layout.tensor_parallel * config.layout.sequence_parallel
    hidden, trained = shape.hidden_size, _is_read(config)
    attention, dense = shape.attention(), shape.dense_block(layer)
    whole = 2 * (FLOAT32 * hidden + FLOAT32)  # each norm: its input in float32, one factor a token
    if trained is None:
        whole += 2 * 2 * numbers * hidden  # each norm's result, before and after its weight
    else:
        whole += (
            numbers
            * hidden
            * sum(
                any(each.name in trained and each.inputs == hidden for each in block)
                for block in (attention, dense)
            )
        )
    shared = _attention(shape, batch, numbers) + _dense(dense, trained, numbers)
    shared += _low_rank(config, (*attention, *dense), numbers)
    routed = _routed(shape, layer, numbers)
    sequence = config.layout.sequence_parallel
    mask = numbers * batch.length**2 * batch.rows if batch.packed else 0
    return batch.tokens * (whole // sequence + shared // cut + routed // sequence) + mask


def kept_bytes(config: TrainConfig, shape: ModelShape, share: Share, batch: Batch) -> int:
    """What all layers of a stage keep: all of it, or with checkpointing only each layer's input."""
    frozen = config.adapter.num_layers if isinstance(config.adapter, FreezeAdapter) else 0
    layers = [layer for layer in share.layers if layer >= frozen]
    if config.layout.activation_checkpointing:
        width = batch.tokens * shape.hidden_size * number_bytes(config)
        return len(layers) * width // config.layout.sequence_parallel
    return sum(layer_bytes(config, shape, layer, batch) for layer in layers)


def recomputed_bytes(config: TrainConfig, shape: ModelShape, share: Share, batch: Batch) -> int:
    """With checkpointing, the one layer that is computed again; else 0."""
    if not config.layout.activation_checkpointing:
        return 0
    return max(layer_bytes(config, shape, layer, batch) for layer in share.layers)


def logits_bytes(config: TrainConfig, shape: ModelShape, batch: Batch) -> int:
    """The most that logits take: themselves, in float32, and their log-probabilities; later the gradients.

    In float32 the first two are the same tensor.
    """
    numbers = number_bytes(config)
    each = 2 * FLOAT32 + (numbers if numbers != FLOAT32 else 0)
    return batch.labels * shape.vocab_size * each // config.layout.sequence_parallel


def _is_read(config: TrainConfig) -> frozenset[str] | None:
    """The matrices whose inputs are needed to train them; None for all."""
    if config.adapter.kind in ("full", "freeze_bottom"):
        return None
    return frozenset(config.adapter.target_modules if isinstance(config.adapter, LoraAdapter) else ())


def _attention(shape: ModelShape, batch: Batch, numbers: int) -> int:
    """Queries, keys, values and the result, and a float32 sum for each head; one token's."""
    heads = shape.num_heads * FLOAT32
    if shape.latent:
        values = shape.num_heads * shape.latent.value_dim
        ranks = (shape.latent.query_rank or 0) + shape.latent.key_value_rank
        return numbers * (2 * shape.query_size + 2 * values) + heads + ranks * (FLOAT32 + 2 * numbers)
    queries = shape.query_size
    keys = queries if batch.packed else shape.key_value_size
    normed = (queries + shape.key_value_size) * (FLOAT32 + numbers) if shape.has_normed_heads else 0
    return numbers * (2 * queries + 2 * keys) + heads + normed


def _dense(block: tuple[Linear, ...], trained: frozenset[str] | None, numbers: int) -> int:
    """The gate before and after its function, the other half, and, if it is learned from, their product."""
    width = next((each.inputs for each in block if each.name == "down_proj"), 0)
    return numbers * width * (4 if trained is None or "down_proj" in trained else 3)


def _low_rank(config: TrainConfig, linears: tuple[Linear, ...], numbers: int) -> int:
    """LoRA's narrow results; with dropout each of its inputs is a tensor of its own, and its mask a byte."""
    adapter = config.adapter
    if not isinstance(adapter, LoraAdapter):
        return 0
    targets = [each for each in linears if each.name in adapter.target_modules]
    dropped = sum(each.inputs for each in targets) * (numbers + 1) if adapter.dropout else 0
    return len(targets) * adapter.r * numbers + dropped


def _routed(shape: ModelShape, layer: int, numbers: int) -> int:
    """A token's copies for the experts it is sent to: its state, their halves and product, and the result."""
    if shape.experts is None or layer not in shape.experts.layers:
        return 0
    experts = shape.experts
    inside = 2 * shape.hidden_size + 4 * experts.intermediate_size
    return experts.per_token * numbers * inside + experts.num_experts * 2 * FLOAT32
