"""Several LoRA adapters of one base model as one model, by PEFT's weighted combination.

`linear` is the exact weighted sum of what the adapters change (PEFT's `cat`: its own `linear` multiplies the
sums of both factors, which mixes one adapter's with the other's). `ties` keeps the largest changes and lets
them vote on their sign (Yadav et al., 2023, arXiv:2306.01708); `dare_linear` and `dare_ties` drop changes at
random and scale up the rest (Yu et al., 2023, arXiv:2311.03099).
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from heliostat.compression.config import MergeConfig
from heliostat.errors import ArtifactError, ConfigError
from heliostat.models.adapters import ADAPTER_CONFIG_NAME, copy_tokenizer, load_with_adapter
from heliostat.records import Artifact
from heliostat.storage import artifact_folder, open_artifact

STEPS = {"load": 0.3, "merge": 0.5, "save": 0.2}
MERGED = "merged"
ALONGSIDE = ("modules_to_save", "trainable_token_indices")
"""What an adapter may bring besides its factors, which cannot be weighed."""


def open_adapters(config: MergeConfig) -> tuple[Artifact, ...]:
    """The certificates of the adapters to merge, in their order.

    Raises:
        ArtifactError: one is no finished adapter.
        ConfigError: they are of different bases, or cannot be combined so.
    """
    adapters = tuple(open_artifact(each.adapter, ("adapter",)) for each in config.adapters)
    rules = [_rules(adapter) for adapter in adapters]
    for adapter, own in zip(adapters, rules, strict=True):
        if _bases(adapter) != _bases(adapters[0]):
            raise ConfigError(
                f"{adapter.uri}: is an adapter of {_said(adapter)}, and {adapters[0].uri} one of "
                f"{_said(adapters[0])}; merge adapters of one base"
            )
        if own.get("peft_type") != "LORA" or any(own.get(name) for name in ALONGSIDE):
            raise ConfigError(
                f"{adapter.uri}: more, or other, than LoRA factors, which cannot be weighed; leave it out"
            )
        if config.method != "linear" and own["r"] != rules[0]["r"]:
            raise ConfigError(
                f"{adapter.uri}: rank {own['r']} where {adapters[0].uri} has {rules[0]['r']}, which method "
                f"{config.method} cannot combine; take method: linear"
            )
    return adapters


def check_base(adapters: Sequence[Artifact], base: Artifact) -> None:
    """Refuse to merge adapters into another model than they were trained with.

    Raises:
        ConfigError: which model they belong to.
    """
    for adapter in adapters:
        if base.id not in adapter.parents:
            raise ConfigError(
                f"{adapter.uri}: is an adapter of {_said(adapter)}, not of {base.id}, which it would be "
                "merged into; name its base as the recipe's model, and leave train out"
            )


def _bases(adapter: Artifact) -> list[str]:
    """The models among what an adapter was made from."""
    return [name for name in adapter.parents if name.startswith("model-")]


def _said(adapter: Artifact) -> str:
    return ", ".join(_bases(adapter)) or "a model that its certificate does not name"


def merge_steps(source: Path, target: Path, config: MergeConfig, adapters: Sequence[Path]) -> Iterator[str]:
    """Write the merged model's folder `target`; yields the name of each of STEPS when it begins.

    Raises:
        ModelError: an adapter does not fit the model.
    """
    import torch

    yield "load"
    model = load_with_adapter(source, adapters[0])
    names = ["default", *(f"other-{number}" for number in range(1, len(adapters)))]
    for name, adapter in zip(names[1:], adapters[1:], strict=True):
        model.load_adapter(str(adapter), adapter_name=name)
    yield "merge"
    torch.manual_seed(0)  # dare draws what it drops
    model.add_weighted_adapter(
        adapters=names,
        weights=[each.weight for each in config.adapters],
        adapter_name=MERGED,
        combination_type="cat" if config.method == "linear" else config.method,
        density=None if config.method == "linear" else config.density,
    )
    merged = model.merge_and_unload(adapter_names=[MERGED])
    yield "save"
    merged.save_pretrained(str(target))
    copy_tokenizer(source, target)


def _rules(adapter: Artifact) -> dict[str, Any]:
    file = artifact_folder(adapter) / ADAPTER_CONFIG_NAME
    try:
        return dict(json.loads(file.read_bytes()))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: cannot be read: {error}") from None
