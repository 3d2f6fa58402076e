"""Where a number that is none came from: the layer, the weight or gradient, and the documents.

Runs on the worker, once the loss or the gradient norm of a step is NaN or infinite and before the optimizer
has stepped: a step on such gradients spoils every weight, and then nothing can be told any more.
torch is imported inside the functions.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

LOSS = "loss"
"""The layer's name where every layer's output is finite and only the loss is not."""


@dataclass(frozen=True)
class NotFinite:
    """The first thing that is NaN or infinite when one micro batch is computed again."""

    layer: str
    """The module's name, the weight's for a weight or a gradient, or `LOSS`."""
    tensor: Literal["activation", "gradient", "weight"]
    document_ids: tuple[str, ...]
    """The documents it happened in, where that can be told; else all of the micro batch."""
    where: str = ""
    """More about it: `row 17 of 600`."""

    def message(self, step: int, saved_to: str = "") -> str:
        """One line for a person."""
        named = f"{', '.join(self.document_ids[:3])}{', ...' if len(self.document_ids) > 3 else ''}"
        what = f"{self.tensor} of {self.layer}" + (f" ({self.where})" if self.where else "")
        mend = "lower learning_rate, use layout.precision: bf16 or fp32, or leave the document out"
        if self.tensor == "weight":
            mend = "start again from a checkpoint before it, or from another base model"
        kept = f"; the batch is kept in {saved_to}" if saved_to else ""
        return f"step {step}: {what} is not finite, in document(s) {named or 'unknown'}; {mend}{kept}"


@dataclass
class _Trace:
    """What the hooks saw in one pass."""

    inputs: list[dict[str, Any]] = field(default_factory=list)
    """What the model was called with, each call's tensors."""
    first: tuple[str, Any, Any] | None = None
    """(name, module, output) of the first module with an output that is not finite."""
    gradients: list[str] = field(default_factory=list)
    """Weights whose gradient is not finite, in the order of the backward pass."""


def find_not_finite(
    model: Any, compute_loss: Callable[[], Any], documents: Sequence[Sequence[str]]
) -> tuple[NotFinite | None, dict[str, np.ndarray]]:
    """Compute a micro batch again and look where the first number that is none appears.

    Leaves gradients, weights and DeepSpeed's buckets alone. A fault that dropout or the hardware made may not
    come back. With the weights split over workers (ZeRO-3, tensor parallel) all of them must call this for
    as many micro batches: each call is one forward and one backward pass, whatever is found. Under ZeRO-3 a
    spoilt weight shows as its layer's activation, as the weight itself is gone again when it is looked at.

    Args:
        model: the module itself, not DeepSpeed's engine (`engine.module`).
        compute_loss: gives the micro batch's loss under `model`, a tensor without dimensions.
        documents: the ids of each row's documents, in their order; of two rows for a pair.

    Returns:
        The fault, or None when all is finite this time, and the arrays that the model was called with.
    """
    trace = _Trace()
    handles = _watch(model, trace)
    try:
        loss = compute_loss()
        _watch_gradients(model, loss, trace, handles)
    finally:
        for handle in handles:
            handle.remove()
    everyone = tuple(name for row in documents for name in row)
    return _explain(loss, trace, documents, everyone), _arrays(trace)


def save_batch(folder: Path, step: int, rank: int, fault: NotFinite | None, arrays: dict[str, Any]) -> Path:
    """Keep a micro batch to look at later: `step-N-rank-R.npz` and `.json`, nothing pickled.

    Args:
        folder: made where it is missing.
        step: the step it happened at.
        rank: the worker's.
        fault: what was found, for the `.json`.
        arrays: from `find_not_finite`; add labels or what else decides the loss.

    Returns:
        The .npz file; `numpy.load(file, allow_pickle=False)` reads it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"step-{step}-rank-{rank}.npz"
    np.savez_compressed(file, allow_pickle=False, **arrays)
    facts = {"step": step, "rank": rank, "fault": asdict(fault) if fault else None, "arrays": list(arrays)}
    file.with_suffix(".json").write_text(json.dumps(facts, indent=2))
    return file


def _watch(model: Any, trace: _Trace) -> list[Any]:
    """Hooks on all modules. A module's own comes after those of the modules in it: the first is innermost."""

    def on_call(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = {f"input_{number}": value for number, value in enumerate(args)} | kwargs
        trace.inputs.append({name: value for name, value in given.items() if hasattr(value, "detach")})

    def on_output(name: str) -> Callable[..., None]:
        def look(module: Any, _: Any, output: Any) -> None:
            if trace.first is None:
                bad = next((each for each in _tensors(output) if not _is_finite(each)), None)
                if bad is not None:
                    trace.first = (name, module, bad.detach())

        return look

    handles = [model.register_forward_pre_hook(on_call, with_kwargs=True)]
    handles += [module.register_forward_hook(on_output(name)) for name, module in model.named_modules()]
    return handles


def _watch_gradients(model: Any, loss: Any, trace: _Trace, handles: list[Any]) -> None:
    """A backward pass that leaves no gradients behind."""
    import torch

    def on_gradient(name: str) -> Callable[[Any], None]:
        def look(gradient: Any) -> None:
            if not _is_finite(gradient):
                trace.gradients.append(name)

        return look

    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    handles += [parameter.register_hook(on_gradient(name)) for name, parameter in trained]
    # Not backward(): DeepSpeed's hooks would add what they get to the step's own gradients.
    torch.autograd.grad(loss, [parameter for _, parameter in trained], allow_unused=True)


def _explain(
    loss: Any, trace: _Trace, documents: Sequence[Sequence[str]], everyone: tuple[str, ...]
) -> NotFinite | None:
    if trace.first is not None:
        name, module, output = trace.first
        weight = next(
            (each for each in module.named_parameters(recurse=False) if not _is_finite(each[1])), None
        )
        guilty = _documents_at(output, trace.inputs, documents) or everyone
        if weight is not None:
            return NotFinite(_joined(name, weight[0]), "weight", guilty, _rows(weight[1]))
        return NotFinite(name or "the model", "activation", guilty)
    if not _is_finite(loss):
        return NotFinite(LOSS, "activation", everyone)
    if trace.gradients:
        return NotFinite(trace.gradients[0], "gradient", everyone)
    return None


def _documents_at(
    output: Any, inputs: list[dict[str, Any]], documents: Sequence[Sequence[str]]
) -> tuple[str, ...]:
    """The documents whose tokens have an output that is not finite, by the restarts in `position_ids`;
    () where the output is not laid out as (row, token, ...) or the rows are not these documents'."""
    positions = inputs[-1].get("position_ids") if inputs else None
    if positions is None or output.shape[:2] != positions.shape or len(documents) != len(positions):
        return ()
    bad = ~output.isfinite()
    bad = bad.flatten(2).any(dim=2) if bad.dim() > 2 else bad
    number = (positions == 0).cumsum(dim=1) - 1
    found = [
        documents[row][int(document)]
        for row in range(len(documents))
        for document in number[row][bad[row]].unique()
        if 0 <= document < len(documents[row])  # beyond are the padding's
    ]
    return tuple(dict.fromkeys(found))


def _rows(weight: Any) -> str:
    """Which rows of a weight are not finite: of embeddings, the tokens."""
    if weight.dim() != 2:
        return ""
    bad = (~weight.detach().isfinite()).any(dim=1).nonzero().flatten().tolist()
    return f"row {', '.join(map(str, bad[:3]))}{', ...' if len(bad) > 3 else ''} of {len(weight)}"


def _arrays(trace: _Trace) -> dict[str, np.ndarray]:
    """The tensors of each call of the model; from the second call on with its number behind the name."""
    import torch

    arrays = {}
    for call, given in enumerate(trace.inputs):
        for name, value in given.items():
            plain = value.detach().cpu()
            if plain.dtype == torch.bfloat16:  # numpy has no such type
                plain = plain.float()
            arrays[f"{name}_{call}" if call else name] = plain.numpy()
    return arrays


def _tensors(output: Any) -> list[Any]:
    """All floating-point tensors in a module's output."""
    if hasattr(output, "is_floating_point"):
        return [output] if output.is_floating_point() else []
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (list, tuple)):
        return [tensor for each in output for tensor in _tensors(each)]
    return []


def _is_finite(tensor: Any) -> bool:
    return bool(tensor.detach().isfinite().all())


def _joined(module: str, weight: str) -> str:
    return f"{module}.{weight}" if module else weight
