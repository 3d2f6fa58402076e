"""Loading weights and tokenizers from a checked folder, without a network and without anybody's code.

torch and transformers are imported inside the functions, so that importing this module costs nothing.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from heliostat.errors import ModelError
from heliostat.models.safety import CONFIG_NAME, TOKENIZER_NAME, ModelFacts, model_facts

__all__ = [
    "ModelFacts",
    "check_architecture",
    "has_chat_template",
    "load_model",
    "load_tokenizer",
    "model_facts",
    "tokenizer_fingerprint",
]

CHAT_TEMPLATE_NAME = "chat_template.jinja"
TOKENIZER_CONFIG_NAME = "tokenizer_config.json"
ENDS_AT_FAST = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""Two names of one class, before and since transformers 5."""


def load_model(folder: Path, dtype: str = "float32") -> Any:
    """The causal language model in a folder, on the CPU, dropout off.

    `dtype` is the name of a torch dtype, or "auto" for that of its files.

    Gradients are on: a trainer calls `train()`, an evaluator works under `torch.inference_mode()`.

    Raises:
        ModelError: it cannot be loaded, its files lack some of its weights, or it scores text.
    """
    from transformers import AutoModelForCausalLM

    _check_is_model(folder)
    architectures = _read_json(folder / CONFIG_NAME).get("architectures") or ("",)
    if architectures[0].endswith("ForSequenceClassification"):  # with tied embeddings it would load and write
        raise ModelError(f"{folder}: is a reward model, which scores text and writes none; choose another")
    model, missing = load_with(AutoModelForCausalLM, folder, dtype)
    if missing:  # transformers would go on with random numbers in their place
        raise ModelError(
            f"{folder}: {len(missing)} tensors are not in its weights, {missing[0]} for one; "
            "the weights do not belong to this config.json"
        )
    return model


def load_with(auto_class: Any, folder: Path, dtype: str, **options: Any) -> tuple[Any, list[str]]:
    """A model as one of transformers' auto classes makes it, and the names of weights not in its files.

    Raises:
        ModelError: it cannot be loaded.
    """
    import torch
    from safetensors import SafetensorError

    _check_is_model(folder)
    silence_transformers()
    try:
        model, info = auto_class.from_pretrained(
            str(folder),
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            attn_implementation="sdpa",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: the model cannot be loaded: {_first_line(error)}") from error
    return model, sorted(info["missing_keys"])


def check_architecture(folder: Path) -> None:
    """Refuse a config whose architecture transformers cannot load as a causal language model.

    Raises:
        ModelError: it names no architecture, or one that is unknown.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    model_type = _read_json(folder / CONFIG_NAME).get("model_type")
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(
            f"{folder / CONFIG_NAME}: model_type '{model_type}' is not a causal language model that the "
            "installed transformers knows; choose another model"
        )


def load_tokenizer(folder: Path) -> Any:
    """The fast tokenizer in a folder, with its chat template if it has one.

    Raises:
        ModelError: it cannot be loaded.
    """
    if not (folder / TOKENIZER_NAME).is_file():
        raise ModelError(f"{folder}: no {TOKENIZER_NAME}; save the model's fast tokenizer there")
    loader = _tokenizer_class(folder)
    silence_transformers()
    try:
        return loader.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: the tokenizer cannot be loaded: {_first_line(error)}") from error


def _tokenizer_class(folder: Path) -> Any:
    """AutoTokenizer, or at once the class it would end at: that saves importing torch, 3 s and 350 MB."""
    file = folder / TOKENIZER_CONFIG_NAME
    if file.is_file() and _read_json(file).get("tokenizer_class") in ENDS_AT_FAST:
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer


def tokenizer_fingerprint(folder: Path) -> str:
    """SHA-256, in hex, over what decides a conversation's ids: vocabulary, rules, end token, chat template.

    Saving a loaded tokenizer again rewrites its files (versions, paths, padding) but not its fingerprint.

    Raises:
        ModelError: the folder has no readable tokenizer.
    """
    rules = _read_json(folder / TOKENIZER_NAME)
    for setting in ("truncation", "padding"):  # how it was last called, not what it is
        rules.pop(setting, None)
    if not (rules.get("post_processor") or {}).get("special_tokens", True):
        rules["post_processor"] = None  # one that adds nothing, which saving puts in
    config = _read_json(folder / TOKENIZER_CONFIG_NAME)
    decides = [rules, _token_text(config.get("eos_token")), _chat_template(folder, config)]
    text = json.dumps(decides, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def has_chat_template(folder: Path) -> bool:
    """Whether the tokenizer in a folder can render conversations."""
    return bool(_chat_template(folder, _read_json(folder / TOKENIZER_CONFIG_NAME)))


def silence_transformers() -> None:
    """No progress bars, notes or warnings from the libraries that load models; errors still come."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)


def _chat_template(folder: Path, config: dict[str, Any]) -> Any:
    """The file wins over the key in tokenizer_config.json, as in transformers."""
    file = folder / CHAT_TEMPLATE_NAME
    return file.read_text(encoding="utf-8") if file.is_file() else config.get("chat_template")


def _token_text(token: Any) -> Any:
    """A special token is written as text or as an object around it."""
    return token.get("content") if isinstance(token, dict) else token


def _check_is_model(folder: Path) -> None:
    if not (folder / CONFIG_NAME).is_file():
        raise ModelError(f"{folder}: no {CONFIG_NAME}; it is not a Hugging Face model folder")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_bytes()))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: cannot be read: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
