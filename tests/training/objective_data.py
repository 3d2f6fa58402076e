"""Datasets that the tests of objectives and adapters learn from, made once from the library's docstrings."""

from pathlib import Path

from docstrings import preference_rows
from small_artifacts import pack_pair, write_dataset

from heliostat.models.loading import load_tokenizer
from heliostat.tokenized import PackedSequence
from heliostat.training.config import TrainConfig
from heliostat.training.objectives.selection import ObjectiveInputs

NUM_TEST = 64


def pairs(model_folder: Path, count: int) -> list[PackedSequence]:
    """Preference pairs as rows: an answer, and the same with its words mixed up."""
    tokenizer = load_tokenizer(model_folder)
    return [pack_pair(row, f"d{number}", tokenizer) for number, row in enumerate(preference_rows(count))]


def write_pairs(folder: Path, model_folder: Path, count: int = 400) -> Path:
    """A dataset of pairs with a train and a test split that share no pair."""
    rows = pairs(model_folder, count)
    splits = {"train": rows[:-NUM_TEST], "test": rows[-NUM_TEST:]}
    return write_dataset(folder, model_folder, splits, pairs=True)


def write_packed(folder: Path, model_folder: Path, count: int = 240, shout: bool = False) -> Path:
    """A dataset of rows of two to four different answers each; every eighth row is in the test split.

    With `shout` the answers are in capitals: another way of writing, for a model that has read the others.
    """
    tokenizer = load_tokenizer(model_folder)
    rows = preference_rows(count)
    if shout:
        rows = [row | {"chosen": row["chosen"].upper()} for row in rows]
    answers = [pack_pair(row, f"d{at}", tokenizer).documents()[0] for at, row in enumerate(rows)]
    packed, start = [], 0
    while start < len(answers):
        packed.append(joined(answers[start : start + 2 + len(packed) % 3]))
        start += len(packed[-1].document_ids)
    splits = {"train": [row for at, row in enumerate(packed) if at % 8], "test": packed[::8]}
    return write_dataset(folder, model_folder, splits)


def joined(documents: list[PackedSequence]) -> PackedSequence:
    """Documents laid end to end."""
    import numpy as np

    return PackedSequence(
        np.concatenate([each.input_ids for each in documents]),
        np.concatenate([each.loss_mask for each in documents]),
        tuple(len(each.input_ids) for each in documents),
        tuple(name for each in documents for name in each.document_ids),
    )


def inputs(
    base: Path, dataset: Path, objective: dict, adapter: dict | None = None, **more
) -> ObjectiveInputs:
    """What `prepare` takes, all parameters trained unless an adapter is given."""
    config = TrainConfig.model_validate({"objective": objective, "adapter": adapter or {"kind": "full"}})
    return ObjectiveInputs(config, base, dataset, **more)
