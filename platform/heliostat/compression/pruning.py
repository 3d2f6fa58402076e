"""Structured pruning: whole layers, groups of heads and channels go, and what stays is refitted.

Layers go by block influence, the least turned hidden states first (ShortGPT, Men et al., 2024,
arXiv:2403.03853). Inside a layer, channels and groups go by what their loss costs after the others have taken
over as much of their work as they can: the saliency of the optimal brain surgeon (Hassibi and Stork, 1992)
over the inputs of the output matrix. That matrix is then solved anew, so that the hidden states behind it
come as near as they can to those of the whole model, which runs along: errors of earlier layers and of
missing ones are made good, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliostat.compression.pruning_plan import Plan, Shape

AT_ONCE = 1 / 100
"""Share of the channels that goes between two updates of the others' saliency. Few at once: of two alike,
either may go for nothing, but not both."""
DAMPING = 0.01
"""Of the mean squared input, added so that what calibration never shows stays as it was."""


def removable(gram: np.ndarray, weight: np.ndarray, num_kept: int, width: int = 1) -> np.ndarray:
    """Which of a matrix's inputs to keep, rising, in blocks of `width`; `num_kept` counts blocks.

    `gram` is (n, n), the inputs' summed outer products; `weight` is (out, n).
    """
    count = len(gram) // width
    inverse = np.linalg.inv(gram)
    left = np.arange(count)
    weight = weight.copy()
    while len(left) > num_kept:
        going = min(max(1, int(AT_ONCE * len(left))), len(left) - num_kept)
        blocks = np.argsort(_saliencies(inverse, weight, width))[:going]
        rows = _members(blocks, width)
        stay = np.setdiff1d(np.arange(len(left) * width), rows)
        share = np.linalg.solve(inverse[np.ix_(rows, rows)], inverse[np.ix_(rows, stay)])
        weight = weight[:, stay] - weight[:, rows] @ share
        inverse = inverse[np.ix_(stay, stay)] - inverse[np.ix_(stay, rows)] @ share
        left = np.delete(left, blocks)
    return _members(left, width)


def _members(blocks: np.ndarray, width: int) -> np.ndarray:
    """The rows of some blocks of `width` rows."""
    return np.asarray((blocks[:, None] * width + np.arange(width)).ravel())


def _saliencies(inverse: np.ndarray, weight: np.ndarray, width: int) -> np.ndarray:
    """What the squared error rises by when a block of inputs goes and the others are refitted, (blocks,)."""
    if width == 1:
        return np.asarray((weight**2).sum(axis=0) / np.diagonal(inverse))
    rises = []
    for start in range(0, len(inverse), width):
        block = slice(start, start + width)
        taken = np.linalg.solve(inverse[block, block], weight[:, block].T)
        rises.append(float((taken * weight[:, block].T).sum()))
    return np.array(rises)


def refitted(gram: np.ndarray, cross: np.ndarray, weight: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The kept columns of a matrix, solved anew: (out, len(kept)).

    `cross` is (out, n): the wanted outputs' summed products with the inputs. Ridge regression towards the old
    weights, which what calibration never shows keeps.
    """
    inner = gram[np.ix_(kept, kept)]
    gap = cross[:, kept] - weight[:, kept] @ inner
    return np.asarray(weight[:, kept] + np.linalg.solve(inner + _ridge(gram, len(kept)), gap.T).T)


def _ridge(gram: np.ndarray, size: int) -> np.ndarray:
    return np.eye(size) * float(DAMPING * np.trace(gram) / len(gram))


@dataclass
class _Stream:
    """Hidden states of the calibration documents on their way through a model, (1, length, hidden) each."""

    hidden: list[Any]
    inputs: list[dict[str, Any]]
    """What a layer takes besides, the same for all layers."""

    def through(self, layer: Any) -> list[Any]:
        """The states behind a layer."""
        return [
            _first(layer(states, **inputs)) for states, inputs in zip(self.hidden, self.inputs, strict=True)
        ]


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output


def block_influence(model: Any, documents: Sequence[np.ndarray]) -> np.ndarray:
    """1 - the mean cosine of what goes into each layer and what comes out of it, (layers,)."""
    import torch

    stream = _embedded(model, documents)
    influence = []
    for layer in model.model.layers:
        behind = stream.through(layer)
        cosines = [
            torch.nn.functional.cosine_similarity(before[0], after[0], dim=-1)
            for before, after in zip(stream.hidden, behind, strict=True)
        ]
        influence.append(1 - float(torch.cat(cosines).mean()))
        stream.hidden = behind
    return np.array(influence)


def prune_layers(model: Any, plan: Plan, shape: Shape, documents: Sequence[np.ndarray]) -> None:
    """Leave of the model what the plan leaves, in place; its config still says the old sizes.

    `documents` are token ids, (length,) each. Runs without gradients, float32, on the CPU.
    """
    import torch

    layers = list(model.model.layers)
    with torch.no_grad():
        kept_layers = list(range(len(layers)))
        if plan.num_layers < len(layers):
            influence = block_influence(model, documents)
            kept_layers = sorted(np.argsort(influence)[len(layers) - plan.num_layers :].tolist())
        whole, pruned = _embedded(model, documents), _embedded(model, documents)
        for missing in layers[: kept_layers[0]]:
            whole.hidden = whole.through(missing)
        for number, index in enumerate(kept_layers):
            following = kept_layers[number + 1] if number + 1 < len(kept_layers) else len(layers)
            between, wanted = _targets(whole, layers[index:following])
            _prune_heads(layers[index], plan, shape, pruned, between)
            _prune_channels(layers[index], plan, pruned, wanted)
            whole.hidden, pruned.hidden = wanted, pruned.through(layers[index])
    model.model.layers = torch.nn.ModuleList([layers[index] for index in kept_layers])


def _targets(whole: _Stream, layers: list[Any]) -> tuple[list[Any], list[Any]]:
    """The whole model's states between attention and feed-forward of the first layer, and behind all."""
    between: list[Any] = []

    def keep(module: Any, arguments: tuple[Any, ...]) -> None:
        between.append(arguments[0])

    hook = layers[0].post_attention_layernorm.register_forward_pre_hook(keep)
    behind = whole.through(layers[0])
    hook.remove()
    for layer in layers[1:]:
        behind = _Stream(behind, whole.inputs).through(layer)
    return between, behind


def _prune_heads(layer: Any, plan: Plan, shape: Shape, stream: _Stream, wanted: list[Any]) -> None:
    """Groups of heads go, and the output matrix is refitted to the states wanted behind attention."""
    attention = layer.self_attn
    moments = _moments(layer, attention.o_proj, stream, wanted, behind_attention=True)
    weight = attention.o_proj.weight.double().numpy()
    width = shape.num_heads // shape.num_groups * shape.head_width
    kept = removable(moments.gram, weight, plan.num_groups, width)
    _set(attention.o_proj, refitted(moments.gram, moments.cross, weight, kept))
    if plan.num_groups == shape.num_groups:
        return
    key_rows = _members(kept[::width] // width, shape.head_width)
    _keep_rows(attention.q_proj, kept)
    _keep_rows(attention.k_proj, key_rows)
    _keep_rows(attention.v_proj, key_rows)


def _prune_channels(layer: Any, plan: Plan, stream: _Stream, wanted: list[Any]) -> None:
    """Channels go, and the output matrix is refitted to the states wanted behind the layer."""
    mlp = layer.mlp
    moments = _moments(layer, mlp.down_proj, stream, wanted, behind_attention=False)
    weight = mlp.down_proj.weight.double().numpy()
    kept = removable(moments.gram, weight, plan.channels)
    _set(mlp.down_proj, refitted(moments.gram, moments.cross, weight, kept))
    _keep_rows(mlp.gate_proj, kept)
    _keep_rows(mlp.up_proj, kept)


@dataclass
class _Moments:
    """What a least-squares fit needs of a matrix's inputs and of the outputs wanted of it."""

    gram: np.ndarray
    cross: np.ndarray


def _moments(layer: Any, matrix: Any, stream: _Stream, wanted: list[Any], behind_attention: bool) -> _Moments:
    """Run the stream through the layer and watch the matrix. What is wanted of it is what its residual
    connection does not bring: the wanted states minus those in front."""
    import torch

    seen: dict[str, Any] = {}
    size = matrix.weight.shape[1]
    gram = torch.zeros(size, size, dtype=torch.float64)
    cross = torch.zeros(matrix.weight.shape[0], size, dtype=torch.float64)
    hooks = [
        matrix.register_forward_pre_hook(lambda _, arguments: seen.update(inputs=arguments[0])),
        layer.post_attention_layernorm.register_forward_pre_hook(
            lambda _, arguments: seen.update(between=arguments[0])
        ),
    ]
    for states, inputs, target in zip(stream.hidden, stream.inputs, wanted, strict=True):
        layer(states, **inputs)
        front = states if behind_attention else seen["between"]
        given, needed = seen["inputs"][0], (target - front)[0]
        if matrix.bias is not None:
            needed = needed - matrix.bias
        gram += (given.T @ given).double()
        cross += (needed.T @ given).double()
    for hook in hooks:
        hook.remove()
    gram += torch.eye(size, dtype=torch.float64) * (1e-6 * gram.trace() / size)
    return _Moments(gram.numpy(), cross.numpy())


def _embedded(model: Any, documents: Sequence[np.ndarray]) -> _Stream:
    """The states in front of the first layer, and what layers take besides them."""
    import torch

    class Reached(Exception):
        """The first layer was called."""

    stream = _Stream([], [])

    def catch(module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        stream.hidden.append(keywords.pop("hidden_states") if not arguments else arguments[0])
        stream.inputs.append(keywords | {"past_key_values": None, "use_cache": False})
        raise Reached

    hook = model.model.layers[0].register_forward_pre_hook(catch, with_kwargs=True)
    for document in documents:
        try:
            model(input_ids=torch.from_numpy(document)[None], use_cache=False)
        except Reached:
            continue
    hook.remove()
    return stream


def _set(matrix: Any, weight: np.ndarray) -> None:
    import torch

    matrix.weight = torch.nn.Parameter(torch.from_numpy(weight).to(torch.float32).contiguous())
    matrix.in_features = weight.shape[1]


def _keep_rows(matrix: Any, rows: np.ndarray) -> None:
    import torch

    chosen = torch.from_numpy(rows)
    matrix.weight = torch.nn.Parameter(matrix.weight[chosen].contiguous())
    matrix.out_features = len(rows)
    if matrix.bias is not None:
        matrix.bias = torch.nn.Parameter(matrix.bias[chosen].contiguous())
