"""A language model with one number at its end instead of a vocabulary: what scores answers."""

from pathlib import Path
from typing import Any

from heliostat.errors import ModelError
from heliostat.models.loading import load_with

HEADS = ("score.", "classifier.")
"""How transformers calls the layer that gives the number."""


def load_reward_model(folder: Path, dtype: str = "float32", padding_id: int | None = None) -> Any:
    """The model in a folder as one that scores a row: logits (batch, 1), on the CPU, dropout off.

    A folder without such a layer, as every language model's, gets one with random numbers in it. With
    `padding_id` the config says which token fills rows: the score is read at the last other token.

    Raises:
        ModelError: it cannot be loaded, its files lack other weights, or its kind cannot score rows.
    """
    from transformers import AutoModelForSequenceClassification

    model, missing = load_with(AutoModelForSequenceClassification, folder, dtype, num_labels=1)
    lacking = [name for name in missing if not name.startswith(HEADS)]
    if lacking:
        raise ModelError(
            f"{folder}: {len(lacking)} tensors are not in its weights, {lacking[0]} for one; "
            "the weights do not belong to this config.json"
        )
    if padding_id is not None:
        model.config.pad_token_id = padding_id
    return model
