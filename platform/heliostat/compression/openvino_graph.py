"""A transformers model as an OpenVINO graph that keeps its own key-value cache, as openvino-genai wants it.

The steps: trace with the cache as explicit inputs and outputs, name them and free their dimensions, let beam
search reorder the cache, turn each pair of cache input and output into a state, and start every state empty.
(optimum-intel does the same, but not yet with this transformers.)
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from heliostat.errors import ModelError

TOKEN_INPUTS = ("input_ids", "attention_mask", "position_ids")
EXAMPLE_BATCH, EXAMPLE_LENGTH, EXAMPLE_PAST = 2, 2, 2


def check_exportable(config: Any, folder: Path) -> None:
    """Refuse what the trace below would get wrong: other caches than one key and one value a layer.

    Raises:
        ModelError: says what stands in the way.
    """
    model_type = getattr(config, "model_type", "?")
    obstacle = None
    if getattr(config, "is_encoder_decoder", False):
        obstacle = "an encoder with a decoder"
    elif any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        obstacle = "layers without full attention"
    elif getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        obstacle = "sliding-window attention"
    elif getattr(config, "num_hidden_layers", None) is None or _cache_width(config) is None:
        obstacle = "no plain attention cache"
    if obstacle:
        raise ModelError(
            f"{folder}: architecture '{model_type}' has {obstacle}, which cannot be exported to OpenVINO; "
            "leave out the compress section and serve it with transformers"
        )


def export_graph(model: Any) -> Any:
    """The stateful graph (an `openvino.Model`) of a causal language model.

    Inputs are `input_ids`, `attention_mask`, `position_ids` (batch, length) and `beam_idx` (batch); the
    output is `logits` (batch, length, vocabulary).
    """
    names = [
        f"{layer}.{part}" for layer in range(model.config.num_hidden_layers) for part in ("key", "value")
    ]
    graph = _convert(model)
    _name_ports(graph, model.config, names)
    # Folds shapes the trace left open. Without it the engine's paged attention does not recognise the graph.
    from openvino._offline_transformations import (
        apply_make_stateful_transformation,
        apply_moc_transformations,
    )

    apply_moc_transformations(graph, cf=False, smart_reshape=False)
    _reorder_by_beam(graph)
    apply_make_stateful_transformation(
        graph, {f"past_key_values.{name}": f"present.{name}" for name in names}
    )
    _start_states_empty(graph)
    return graph


def model_inputs(input_ids: np.ndarray) -> dict[str, np.ndarray]:
    """What the graph takes for a text of its own, (length,) token ids: a batch of one."""
    length = len(input_ids)
    return {
        "input_ids": input_ids[None].astype(np.int64),
        "attention_mask": np.ones((1, length), dtype=np.int64),
        "position_ids": np.arange(length, dtype=np.int64)[None],
        "beam_idx": np.zeros(1, dtype=np.int32),
    }


def _cache_width(config: Any) -> int | None:
    """The width of a head's keys and values."""
    heads, hidden = getattr(config, "num_attention_heads", None), getattr(config, "hidden_size", None)
    width = getattr(config, "head_dim", None) or (hidden // heads if heads and hidden else None)
    return int(width) if width else None


def _cache_heads(config: Any) -> int:
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def _convert(model: Any) -> Any:
    """Trace once and convert.

    `openvino.convert_model` would trace three times, to check the trace, and rebuild the graph for
    preprocessing that is not asked for: 27 s instead of 8 s for SmolLM2-135M on one core.
    """
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = _example_inputs(model.config)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about branches on shapes, which the freed dimensions do not take
        traced = torch.jit.trace(_with_explicit_cache(model), example, strict=False, check_trace=False)
    frontend = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced, example_input=example)
    return frontend.convert(frontend.load(decoder))


def _example_inputs(config: Any) -> tuple[Any, ...]:
    import torch

    whole = EXAMPLE_PAST + EXAMPLE_LENGTH
    cache_shape = (EXAMPLE_BATCH, _cache_heads(config), EXAMPLE_PAST, _cache_width(config))
    positions = torch.arange(EXAMPLE_PAST, whole).expand(EXAMPLE_BATCH, -1)
    return (
        torch.ones(EXAMPLE_BATCH, EXAMPLE_LENGTH, dtype=torch.long),
        torch.ones(EXAMPLE_BATCH, whole, dtype=torch.long),
        positions.contiguous(),
        *(torch.zeros(cache_shape) for _ in range(2 * config.num_hidden_layers)),
    )


def _with_explicit_cache(model: Any) -> Any:
    """The model as a module whose cache comes in and goes out as plain tensors: key, value, key, value ..."""
    import torch
    from transformers.cache_utils import DynamicCache

    class WithExplicitCache(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any, *past: Any) -> Any:
            cache = DynamicCache()
            # Filled by hand: DynamicCache.update starts from an empty 1-D tensor, which cannot be converted.
            cache.layers = [
                _filled_layer(key, value) for key, value in zip(past[::2], past[1::2], strict=True)
            ]
            result = self.inner(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=True,
            )
            present = [part for layer in result.past_key_values.layers for part in (layer.keys, layer.values)]
            return (result.logits, *present)

    return WithExplicitCache().eval()


def _filled_layer(key: Any, value: Any) -> Any:
    from transformers.cache_utils import DynamicLayer

    layer = DynamicLayer()
    layer.keys, layer.values = key, value
    layer.dtype, layer.device, layer.is_initialized = key.dtype, key.device, True
    return layer


def _name_ports(graph: Any, config: Any, names: list[str]) -> None:
    """Names the engine looks for (of ports and of nodes), and dimensions that may vary."""
    from openvino import PartialShape

    cache_shape = [-1, _cache_heads(config), -1, _cache_width(config)]
    inputs = [*TOKEN_INPUTS, *(f"past_key_values.{name}" for name in names)]
    for port, name in zip(graph.inputs, inputs, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
        shape = [-1, -1] if name in TOKEN_INPUTS else cache_shape
        port.get_node().set_partial_shape(PartialShape(shape))
    outputs = ["logits", *(f"present.{name}" for name in names)]
    for port, name in zip(graph.outputs, outputs, strict=True):
        port.get_tensor().set_names({name})
    graph.validate_nodes_and_infer_types()


def _reorder_by_beam(graph: Any) -> None:
    """Read each cache through `beam_idx`, so that a row may go on from another row's past."""
    from openvino import PartialShape
    from openvino import opset13 as ops

    beam = ops.parameter(PartialShape([-1]), dtype=np.int32, name="beam_idx")
    beam.output(0).get_tensor().set_names({"beam_idx"})
    graph.add_parameters([beam])
    for port in graph.inputs:
        if not port.get_any_name().startswith("past_key_values."):
            continue
        cache = port.get_node().output(0)
        consumers = list(cache.get_target_inputs())
        gathered = ops.gather(cache, beam, ops.constant(0))
        for consumer in consumers:
            consumer.replace_source_output(gathered.output(0))
    graph.validate_nodes_and_infer_types()


def _start_states_empty(graph: Any) -> None:
    """Before the first token a state has as many rows as the batch, and no past."""
    from openvino import opset13 as ops

    input_ids = graph.input("input_ids")
    batch = ops.gather(ops.shape_of(input_ids, output_type="i64"), ops.constant([0]), ops.constant(0))
    for node in graph.get_ops():
        if node.get_type_name() != "ReadValue":
            continue
        _, heads, _, width = node.get_output_partial_shape(0)
        rest = ops.constant(np.array([heads.get_length(), 0, width.get_length()], dtype=np.int64))
        zero = ops.constant(0.0, dtype=node.get_output_element_type(0))
        node.set_arguments([ops.broadcast(zero, ops.concat([batch, rest], 0))])
    graph.validate_nodes_and_infer_types()
