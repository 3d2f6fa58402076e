"""Structured pruning: whole layers, groups of heads and channels go, and what stays is refitted.

Layers go by block influence, the least turned hidden states first (ShortGPT, Men et al., 2024,
arXiv:2403.03853). Inside a layer, channels and groups go by what their loss costs after the others have taken
over as much of their work as they can: the saliency of the optimal brain surgeon (Hassibi and Stork, 1992)
over the inputs of the output matrix. That matrix is then solved anew, so that the hidden states behind it
come as near as they can to those of the whole model, which runs along: errors of earlier layers and of
missing ones are made good, too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliostat.compression.pruning_plan import Plan, Shape

AT_ONCE = 1 / 100
"""Share of the channels that goes between two updates of the others' saliency. Few at once: of two alike,
either may go for nothing, but not both."""
ROW_TOKENS = 512
DAMPING = 0.01
"""Of the mean squared input, added so that what calibration never shows stays as it was."""


def removable(gram: np.ndarray, weight: np.ndarray, num_kept: int, width: int = 1) -> np.ndarray:
    """Which of a matrix's inputs to keep, rising, in blocks of `width`; `num_kept` counts blocks.

    `gram` is (n, n), the inputs' summed outer products; `weight` is (out, n).
    """
    left = np.ones(len(gram) // width, dtype=bool)
    inverse, weight = np.linalg.inv(gram), weight.copy()
    while (surplus := int(left.sum()) - num_kept) > 0:
        going = min(max(1, int(AT_ONCE * left.sum())), surplus)
        rises = np.where(left, _saliencies(inverse, weight, width, left), np.inf)
        blocks = np.argsort(rises)[:going]
        rows = _members(blocks, width)
        share = np.linalg.solve(inverse[np.ix_(rows, rows)], inverse[rows])
        weight -= weight[:, rows] @ share
        inverse -= inverse[:, rows] @ share
        left[blocks] = False
    return _members(np.flatnonzero(left), width)


def _members(blocks: np.ndarray, width: int) -> np.ndarray:
    """The rows of some blocks of `width` rows."""
    return np.asarray((blocks[:, None] * width + np.arange(width)).ravel())


def _saliencies(inverse: np.ndarray, weight: np.ndarray, width: int, left: np.ndarray) -> np.ndarray:
    """What the squared error rises by when a block of inputs goes and the others are refitted, (blocks,)."""
    if width == 1:
        return np.asarray((weight**2).sum(axis=0) / np.where(left, np.diagonal(inverse), 1))
    rises = np.zeros(len(left))
    for number in np.flatnonzero(left):
        block = slice(number * width, (number + 1) * width)
        taken = np.linalg.solve(inverse[block, block], weight[:, block].T)
        rises[number] = float((taken * weight[:, block].T).sum())
    return rises


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
    """Hidden states of the calibration documents on their way through a model, (1, length, hidden) each; a
    row holds several documents, end to end."""

    hidden: list[Any]
    inputs: list[dict[str, Any]]
    """What a layer takes besides, the same for all layers."""

    def through(self, layer: Any) -> list[Any]:
        """The states behind a layer."""
        return [
            _first(layer(states, **inputs)) for states, inputs in zip(self.hidden, self.inputs, strict=True)
        ]

    def seen_in(self, layer: Any, *modules: Any) -> tuple[list[Any], ...]:
        """What goes into modules of the layer, a list each, and what comes out of the layer."""
        seen: list[list[Any]] = [[] for _ in modules]
        hooks = [
            module.register_forward_pre_hook(lambda _, arguments, kept=kept: kept.append(arguments[0]))
            for module, kept in zip(modules, seen, strict=True)
        ]
        behind = self.through(layer)
        for hook in hooks:
            hook.remove()
        return (*seen, behind)


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


def prune_layers(model: Any, plan: Plan, shape: Shape, documents: Sequence[np.ndarray]) -> Iterator[float]:
    """Leave of the model what the plan leaves, in place; its config still says the old sizes. Yields the
    share that is done, layer by layer.

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
            between, wanted = whole.seen_in(layers[index], layers[index].post_attention_layernorm)
            for missing in layers[index + 1 : following]:
                wanted = _Stream(wanted, whole.inputs).through(missing)
            _prune_heads(layers[index], plan, shape, pruned, between)
            _prune_channels(layers[index], plan, pruned, wanted)
            whole.hidden = wanted
            yield (number + 1) / len(kept_layers)
    model.model.layers = torch.nn.ModuleList([layers[index] for index in kept_layers])


def _prune_heads(layer: Any, plan: Plan, shape: Shape, stream: _Stream, wanted: list[Any]) -> None:
    """Groups of heads go, and the output matrix is refitted to the states wanted behind attention."""
    attention = layer.self_attn
    seen, _ = stream.seen_in(layer, attention.o_proj)
    gram, cross = _moments(attention.o_proj, seen, stream.hidden, wanted)
    weight = attention.o_proj.weight.double().numpy()
    width = shape.num_heads // shape.num_groups * shape.head_width
    kept = removable(gram, weight, plan.num_groups, width)
    _set(attention.o_proj, refitted(gram, cross, weight, kept))
    if plan.num_groups == shape.num_groups:
        return
    key_rows = _members(kept[::width] // width, shape.head_width)
    _keep_rows(attention.q_proj, kept)
    _keep_rows(attention.k_proj, key_rows)
    _keep_rows(attention.v_proj, key_rows)


def _prune_channels(layer: Any, plan: Plan, stream: _Stream, wanted: list[Any]) -> None:
    """Channels go, the output matrix is refitted to the states wanted behind the layer, and the stream moves
    on behind it."""
    mlp = layer.mlp
    between, seen, _ = stream.seen_in(layer, layer.post_attention_layernorm, mlp.down_proj)
    gram, cross = _moments(mlp.down_proj, seen, between, wanted)
    weight = mlp.down_proj.weight.double().numpy()
    kept = removable(gram, weight, plan.channels)
    _set(mlp.down_proj, refitted(gram, cross, weight, kept))
    _keep_rows(mlp.gate_proj, kept)
    _keep_rows(mlp.up_proj, kept)
    stream.hidden = [
        front + mlp.down_proj(given[..., kept]) for front, given in zip(between, seen, strict=True)
    ]


def _moments(
    matrix: Any, seen: list[Any], fronts: list[Any], wanted: list[Any]
) -> tuple[np.ndarray, np.ndarray]:
    """What a least-squares fit needs: the inputs' products with themselves, (n, n), and with the outputs that
    are wanted of the matrix, (out, n): what its residual connection does not bring."""
    import torch

    given = torch.cat([each[0] for each in seen])
    needed = torch.cat([(state - front)[0] for state, front in zip(wanted, fronts, strict=True)])
    if matrix.bias is not None:
        needed -= matrix.bias
    gram = (given.T @ given).double()
    gram.diagonal().add_(1e-6 * gram.trace() / len(gram))
    return gram.numpy(), (needed.T @ given).double().numpy()


def _embedded(model: Any, documents: Sequence[np.ndarray]) -> _Stream:
    """The states in front of the first layer, and what layers take besides them."""
    import torch

    class Reached(Exception):
        """The first layer was called."""

    stream = _Stream([], [])

    def catch(module: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        stream.hidden.append(arguments[0] if arguments else keywords.pop("hidden_states"))
        stream.inputs.append(keywords | {"past_key_values": None, "use_cache": False})
        raise Reached

    hook = model.model.layers[0].register_forward_pre_hook(catch, with_kwargs=True)
    for row in _rows(documents):
        ids, positions = np.concatenate(row), np.concatenate([np.arange(len(each)) for each in row])
        try:
            model(
                input_ids=torch.from_numpy(ids)[None],
                position_ids=torch.from_numpy(positions)[None],  # these keep documents apart
                use_cache=False,
            )
        except Reached:
            continue
    hook.remove()
    return stream


def _rows(documents: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Documents together up to ROW_TOKENS: a layer is faster over one long row than over many short ones."""
    row: list[np.ndarray] = []
    for document in documents:
        if row and sum(len(each) for each in row) + len(document) > ROW_TOKENS:
            yield row
            row = []
        row.append(document)
    if row:
        yield row


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
