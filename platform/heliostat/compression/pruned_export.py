"""A transformers folder as a smaller one: pruned by plan, with a config that says the new sizes."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heliostat.compression.config import PruneConfig
from heliostat.compression.pruning import prune_layers
from heliostat.compression.pruning_plan import Plan, Shape, plan_pruning
from heliostat.compression.steps import Partly
from heliostat.errors import ModelError
from heliostat.models.adapters import copy_tokenizer
from heliostat.models.loading import load_model
from heliostat.models.safety import CONFIG_NAME

STEPS = {"load": 0.1, "prune": 0.85, "save": 0.05}


def plan_for(config: PruneConfig, folder: Path) -> Plan:
    """What would be left of the model in a folder, from its config alone.

    Raises:
        ModelError: the family is not known, its attention not plain, or so much cannot go that way.
    """
    values: dict[str, Any] = json.loads((folder / CONFIG_NAME).read_bytes())
    try:
        if any(kind != "full_attention" for kind in values.get("layer_types") or ()) or (
            values.get("sliding_window") and values.get("use_sliding_window", True)
        ):
            raise ModelError("sliding-window attention cannot be pruned here; leave the prune step out")
        return plan_pruning(config, Shape.of(values))
    except ModelError as error:
        raise ModelError(f"{folder / CONFIG_NAME}: {error}") from None


def prune_steps(
    source: Path,
    target: Path,
    config: PruneConfig,
    documents: Sequence[np.ndarray],
    num_threads: int = 1,
) -> Iterator[str | Partly]:
    """Write the pruned folder `target`; yields the name of each of STEPS when it begins, and how far it is.

    Raises:
        ModelError: the model cannot be loaded, or not be pruned so.
    """
    import torch

    yield "load"
    torch.set_num_threads(num_threads)
    plan = plan_for(config, source)
    shape = Shape.of(json.loads((source / CONFIG_NAME).read_bytes()))
    model = load_model(source)
    yield "prune"
    for share in prune_layers(model, plan, shape, documents):
        yield Partly("prune", share)
    yield "save"
    sizes = {
        "num_hidden_layers": plan.num_layers,
        "intermediate_size": plan.channels,
        "num_key_value_heads": plan.num_groups,
        "num_attention_heads": plan.num_groups * (shape.num_heads // shape.num_groups),
        "head_dim": shape.head_width,
    }
    for name, value in sizes.items():
        setattr(model.config, name, value)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[: plan.num_layers]
    model.save_pretrained(str(target))
    copy_tokenizer(source, target)
