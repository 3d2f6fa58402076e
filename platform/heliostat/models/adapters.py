"""Adapters beside their base model: carrying the tokenizer along, and merging one into the weights."""

import shutil
from pathlib import Path

from heliostat.errors import ModelError

ADAPTER_WEIGHTS_NAME = "adapter_model.safetensors"
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


def merge_adapter(base_folder: Path, adapter_folder: Path, out_folder: Path) -> None:
    """Merge a PEFT adapter into its base model and save a folder that stands on its own (safetensors).

    Raises:
        ModelError: the adapter is not there, is a pickle, or belongs to another model.
    """
    if not (adapter_folder / ADAPTER_WEIGHTS_NAME).is_file():  # PEFT would look for a pickle instead
        raise ModelError(f"{adapter_folder}: no {ADAPTER_WEIGHTS_NAME}; save the adapter as safetensors")
    from peft import PeftModel

    from heliostat.models.loading import load_model

    try:
        model = PeftModel.from_pretrained(load_model(base_folder), str(adapter_folder))
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{adapter_folder}: does not fit the model in {base_folder}: {reason}") from error
    merged = model.merge_and_unload()
    merged.save_pretrained(str(out_folder))
    copy_tokenizer(base_folder, out_folder)
