"""Adapters beside their base model: taking the tokenizer along, loading one, merging one into the weights."""

import json
import shutil
from pathlib import Path
from typing import Any

from heliostat.errors import ModelError

ADAPTER_WEIGHTS_NAME = "adapter_model.safetensors"
ADAPTER_CONFIG_NAME = "adapter_config.json"
IN_FRONT = ("PROMPT_TUNING", "PREFIX_TUNING")
"""PEFT's names of adapters that put something in front of a document, which no weight can hold."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Carry every file of the tokenizer in `source` over to `target`, its chat template included."""
    target.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copy2(source / name, target / name)


def load_with_adapter(base_folder: Path, adapter_folder: Path, dtype: str = "float32") -> Any:
    """A base model with a PEFT adapter beside its weights, on the CPU, dropout off, nothing trainable.

    An adapter of a reward model brings the layer that scores.

    Raises:
        ModelError: the adapter is not there, is a pickle, or belongs to another model.
    """
    if not (adapter_folder / ADAPTER_WEIGHTS_NAME).is_file():  # PEFT would look for a pickle instead
        raise ModelError(f"{adapter_folder}: no {ADAPTER_WEIGHTS_NAME}; save the adapter as safetensors")
    from peft import PeftModel
    from safetensors import SafetensorError

    from heliostat.models.loading import load_model
    from heliostat.models.reward_model import load_reward_model

    scores = _adapter_config(adapter_folder).get("task_type") == "SEQ_CLS"
    base = (load_reward_model if scores else load_model)(base_folder, dtype)
    try:
        return PeftModel.from_pretrained(base, str(adapter_folder)).eval()
    except (RuntimeError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{adapter_folder}: does not fit the model in {base_folder}: {reason}") from error


def merge_adapter(base_folder: Path, adapter_folder: Path, out_folder: Path) -> None:
    """Merge a PEFT adapter into its base model and save a folder that stands on its own (safetensors).

    Raises:
        ModelError: the adapter is not there, is a pickle, belongs to another model, or cannot be merged.
    """
    kind = _adapter_config(adapter_folder).get("peft_type")
    if kind in IN_FRONT:
        raise ModelError(
            f"{adapter_folder}: a {str(kind).lower()} adapter stands in front of a document and cannot be "
            "merged into weights; load it beside its base model, or train with adapter: {kind: lora}"
        )
    merged = load_with_adapter(base_folder, adapter_folder).merge_and_unload()
    merged.save_pretrained(str(out_folder))
    copy_tokenizer(base_folder, out_folder)


def _adapter_config(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / ADAPTER_CONFIG_NAME).read_bytes()))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: no readable {ADAPTER_CONFIG_NAME}: {error}") from None
