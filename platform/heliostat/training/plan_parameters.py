"""Which parameters a worker holds under a layout, and which of them a run trains. Pure arithmetic."""

from dataclasses import dataclass

from heliostat.training.adapter_config import (
    Adapter,
    FreezeAdapter,
    LoraAdapter,
    PrefixTuningAdapter,
    PromptTuningAdapter,
)
from heliostat.training.config import TrainConfig
from heliostat.training.model_shape import Linear, ModelShape
from heliostat.training.placement import head_shares


@dataclass(frozen=True)
class Share:
    """What a worker of one pipeline stage holds before ZeRO splits it; of tensor ranks, the largest share."""

    layers: tuple[int, ...]
    has_input: bool
    has_output: bool
    dense: int
    """Parameters outside the experts: all replicas hold the same."""
    experts: int
    trainable_dense: int
    trainable_experts: int


def trainable_parameters(adapter: Adapter, shape: ModelShape, added_tokens: int = 0) -> int:
    """Parameters that an adapter trains in the whole model; with LoRA the rows of added tokens too."""
    if isinstance(adapter, LoraAdapter):
        rows = added_tokens * shape.hidden_size * (1 if shape.tied_embeddings else 2)
        return rows + sum(_lora_parameters(adapter, each) for each in _targets(adapter, shape))
    if isinstance(adapter, PromptTuningAdapter):
        return adapter.num_virtual_tokens * shape.hidden_size
    if isinstance(adapter, PrefixTuningAdapter):
        return adapter.num_virtual_tokens * 2 * shape.num_layers * shape.key_value_size
    if isinstance(adapter, FreezeAdapter):
        frozen = sum(sum(shape.layer_parts(layer).values()) for layer in range(adapter.num_layers))
        return shape.num_parameters - shape.parts()["embeddings"] - frozen
    return shape.num_parameters


def shares(config: TrainConfig, shape: ModelShape, added_tokens: int = 0) -> tuple[Share, ...]:
    """What a worker of each pipeline stage holds."""
    stages = split_layers(shape, config.layout.pipeline_parallel)
    if len(stages) == 1 and not isinstance(config.adapter, FreezeAdapter):
        whole = _share(config, shape, stages[0], (True, True))
        if whole.trainable_dense:
            return (whole,)
        extra = trainable_parameters(config.adapter, shape, added_tokens)
        return (_with_adapter(whole, extra),)
    last = len(stages) - 1
    return tuple(_share(config, shape, layers, (at == 0, at == last)) for at, layers in enumerate(stages))


def split_layers(shape: ModelShape, num_stages: int) -> tuple[tuple[int, ...], ...]:
    """The layers of each stage, so that the largest stage has as few parameters as can be.

    The embeddings weigh on the first stage and the output on the last, as in DeepSpeed's partition by
    parameters; each stage has a layer at least.
    """
    table = shape.vocab_size * shape.hidden_size
    sizes = [sum(shape.layer_parts(layer).values()) for layer in range(shape.num_layers)]
    sizes[0] += table
    sizes[-1] += table
    low, high = max(sizes), sum(sizes)
    while low < high:
        middle = (low + high) // 2
        if len(_cut_at(sizes, middle)) <= num_stages:
            high = middle
        else:
            low = middle + 1
    stages = _cut_at(sizes, low)
    while len(stages) < num_stages:  # the fewest stages that do are fewer than there are workers
        widest = max(range(len(stages)), key=lambda at: len(stages[at]))
        half = (len(stages[widest]) + 1) // 2
        stages[widest : widest + 1] = [stages[widest][:half], stages[widest][half:]]
    return tuple(tuple(stage) for stage in stages)


def _cut_at(sizes: list[int], most: int) -> list[list[int]]:
    stages: list[list[int]] = [[]]
    held = 0
    for layer, size in enumerate(sizes):
        if held + size > most:
            stages.append([])
            held = 0
        stages[-1].append(layer)
        held += size
    return stages


def _share(config: TrainConfig, shape: ModelShape, layers: tuple[int, ...], ends: tuple[bool, bool]) -> Share:
    """A stage's share; an adapter that adds parameters trains none of these."""
    adapter, layout = config.adapter, config.layout
    has_input, has_output = ends
    tensor, experts_over = layout.tensor_parallel, layout.expert_parallel
    table = shape.vocab_size * shape.hidden_size
    output = -(-shape.vocab_size // tensor) * shape.hidden_size
    if shape.tied_embeddings:
        output = 0 if has_input else table  # another stage keeps a copy of its own
    sizes = {layer: _layer(shape, layer, tensor) for layer in layers}
    expert_sizes = {layer: shape.layer_parts(layer)["experts"] // experts_over for layer in layers}
    ends_size = output + shape.hidden_size if has_output else 0
    adds = not isinstance(adapter, FreezeAdapter) and adapter.kind != "full"
    frozen = adapter.num_layers if isinstance(adapter, FreezeAdapter) else 0
    trained = [] if adds else [layer for layer in layers if layer >= frozen]
    trained_ends = 0 if adds else ends_size
    if frozen and has_output and shape.tied_embeddings:
        trained_ends = shape.hidden_size
    trained_input = table if has_input and adapter.kind == "full" else 0
    return Share(
        layers=layers,
        has_input=has_input,
        has_output=has_output,
        dense=sum(sizes.values()) + ends_size + (table if has_input else 0),
        experts=sum(expert_sizes.values()),
        trainable_dense=sum(sizes[layer] for layer in trained) + trained_ends + trained_input,
        trainable_experts=sum(expert_sizes[layer] for layer in trained),
    )


def _with_adapter(whole: Share, extra: int) -> Share:
    return Share(whole.layers, True, True, whole.dense + extra, whole.experts, extra, 0)


def _layer(shape: ModelShape, layer: int, tensor: int) -> int:
    """Parameters of a layer outside its experts, of the tensor rank that holds most."""
    parts = shape.layer_parts(layer)
    heads, of = head_shares(shape, tensor)[0], shape.num_key_value_heads
    attention = sum(_cut(each, heads, of) for each in shape.attention())
    dense = sum(_cut(each, -(-_width(each) // tensor), _width(each)) for each in shape.dense_block(layer))
    return attention + dense + parts["router"] + parts["norms"]


def _width(linear: Linear) -> int:
    return linear.inputs if linear.by_rows else linear.outputs


def _cut(linear: Linear, share: int, of: int) -> int:
    kept = _width(linear) * share // of
    if linear.by_rows:
        return kept * linear.outputs + linear.outputs * linear.bias
    return kept * (linear.inputs + linear.bias)


def _targets(adapter: LoraAdapter, shape: ModelShape) -> list[Linear]:
    ends = [
        Linear("embed_tokens", shape.vocab_size, shape.hidden_size),
        Linear("lm_head", shape.hidden_size, shape.vocab_size),
    ]
    return [each for each in (*shape.linears(), *ends) if each.name in adapter.target_modules]


def _lora_parameters(adapter: LoraAdapter, linear: Linear) -> int:
    """Two matrices of rank r, and with DoRA one length for each output."""
    return adapter.r * (linear.inputs + linear.outputs) + linear.outputs * adapter.use_dora
