"""What a folder with a LoRA adapter holds, told from its JSON and the header of its weights alone."""

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliostat.errors import ServingError
from heliostat.models.adapters import ADAPTER_CONFIG_NAME, ADAPTER_WEIGHTS_NAME

MAX_HEADER_BYTES = 1 << 26
TENSOR_NAME = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


@dataclass(frozen=True)
class LoraFolder:
    """An adapter's weights file, and of each layer it changes the rank, inputs and outputs.

    `scaling` is what the product of its matrices is multiplied by; None when that differs between layers.
    """

    weights: Path
    layers: dict[str, tuple[int, int, int]]
    scaling: float | None

    def check_fits(self, linear_layers: Mapping[str, tuple[int, int]]) -> None:
        """Refuse an adapter of another model, given that one's layers with their inputs and outputs.

        Raises:
            ServingError: names the first layer that does not fit.
        """
        for name, (_, inputs, outputs) in self.layers.items():
            there = linear_layers.get(name)
            if there != (inputs, outputs):
                has = f"one of {there[0]} to {there[1]}" if there else "no such layer"
                raise ServingError(
                    f"{self.weights.parent}: changes {name}, {inputs} to {outputs}, but the model has {has}; "
                    "give an adapter that was trained on this model"
                )


def read_lora_folder(folder: Path) -> LoraFolder:
    """Look at an adapter as PEFT saves it.

    Raises:
        ServingError: it is not there, is a pickle, or more than plain LoRA.
    """
    weights = folder / ADAPTER_WEIGHTS_NAME
    try:
        config = json.loads((folder / ADAPTER_CONFIG_NAME).read_bytes())
        shapes = tensor_shapes(weights)
    except (OSError, ValueError, struct.error) as error:
        raise ServingError(f"{folder}: no readable LoRA adapter saved as safetensors: {error}") from None
    beyond = [name for name in ("use_dora", "modules_to_save", "layer_replication") if config.get(name)]
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none" or beyond:
        raise ServingError(
            f"{folder}: is not plain LoRA ({', '.join(beyond) or 'by peft_type or bias'}), so it cannot be "
            "put on beside others; merge it into its model and serve that"
        )
    return LoraFolder(weights, _layers(shapes, folder), _scaling(config))


def tensor_shapes(file: Path) -> dict[str, list[int]]:
    """The shapes in a safetensors file, by name.

    Raises:
        OSError, ValueError, struct.error: it is none.
    """
    with file.open("rb") as opened:
        (size,) = struct.unpack("<Q", opened.read(8))
        if size > MAX_HEADER_BYTES:
            raise ValueError(f"{file.name} is not safetensors")
        header = json.loads(opened.read(size))
    return {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}


def _layers(shapes: Mapping[str, list[int]], folder: Path) -> dict[str, tuple[int, int, int]]:
    pairs: dict[str, dict[str, list[int]]] = {}
    for name, shape in shapes.items():
        match = TENSOR_NAME.fullmatch(name)
        if not match or len(shape) != 2:
            raise ServingError(
                f"{folder}: {name} is no matrix of a LoRA adapter for a linear layer; "
                "merge the adapter into its model and serve that"
            )
        pairs.setdefault(match[1], {})[match[2]] = shape
    layers = {}
    for name, pair in pairs.items():
        down, up = pair.get("A", [0, 0]), pair.get("B", [0, 0])
        if not down[0] or down[0] != up[1]:
            raise ServingError(f"{folder}: {name} lacks a matrix, or its two do not fit together")
        layers[name] = (down[0], down[1], up[0])
    if not layers:
        raise ServingError(f"{folder}: {ADAPTER_WEIGHTS_NAME} holds no adapter")
    return layers


def _scaling(config: Mapping[str, Any]) -> float | None:
    if config.get("rank_pattern") or config.get("alpha_pattern"):
        return None
    rank, alpha = int(config["r"]), float(config["lora_alpha"])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
