"""Writing what a run has trained, in transformers' or PEFT's form, from workers that hold parts of it."""

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from heliostat.models.adapters import copy_tokenizer
from heliostat.training.config import FreezeAdapter, FullAdapter
from heliostat.training.edge_engine import ModelEngine

INDEX_NAME = "model.safetensors.index.json"


def save_trained(engine: ModelEngine, base_folder: Path, folder: Path) -> None:
    """A whole model where its own parameters were trained, else an adapter. Every worker calls it:
    what is split is collected from all, and each stage of a pipeline writes a file of its own."""
    if isinstance(engine.config.adapter, (FullAdapter, FreezeAdapter)):
        parts: Iterator[tuple[str, torch.Tensor]] = chain(
            engine.whole_tensors(trained=True), engine.whole_tensors(trained=False), engine.buffers()
        )
    else:
        parts = engine.whole_tensors(trained=True)
    state = _collected(engine, parts)
    if engine.config.layout.pipeline_parallel > 1:
        _save_stages(engine, state, folder)
    elif engine.writes_trained:
        engine.model.save_pretrained(folder, state_dict=state)
    if engine.rank == 0:
        copy_tokenizer(base_folder, folder)


def _collected(engine: ModelEngine, parts: Iterator[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """What comes, on the workers that write; the others only take part in collecting it."""
    collected = {}
    for name, tensor in parts:
        if engine.writes_trained:
            collected[name] = tensor
    return collected


def _save_stages(engine: ModelEngine, state: dict[str, torch.Tensor], folder: Path) -> None:
    """One safetensors file a writing worker, and an index over all of them."""
    everything: list[Any] = [None] * engine.num_workers
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in state.items()}
    torch.distributed.all_gather_object(everything, sizes)
    writers = [rank for rank, names in enumerate(everything) if names]
    files = {rank: f"model-{n:05d}-of-{len(writers):05d}.safetensors" for n, rank in enumerate(writers, 1)}
    owner: dict[str, int] = {}
    for rank in writers:
        for name in everything[rank]:
            owner.setdefault(name, rank)  # tied embeddings lie in the first stage and in the last
    folder.mkdir(parents=True, exist_ok=True)
    if engine.rank in files:
        mine = {name: tensor.contiguous() for name, tensor in state.items() if owner[name] == engine.rank}
        save_file(mine, folder / files[engine.rank], metadata={"format": "pt"})
    if engine.rank == 0:
        index = {
            "metadata": {"total_size": sum(everything[rank][name] for name, rank in owner.items())},
            "weight_map": {name: files[rank] for name, rank in sorted(owner.items())},
        }
        (folder / INDEX_NAME).write_text(json.dumps(index, indent=2))
        engine.model.config.save_pretrained(folder)
        if engine.model.generation_config is not None:
            engine.model.generation_config.save_pretrained(folder)
