"""Prose in which nothing repeats, edits of it, and what the tests of cleaning ask about it."""

import random
from pathlib import Path

import pyarrow.parquet as pq
from tests.data.in_process import in_order

from heliostat.data.cleaning import clean
from heliostat.data.config import DataConfig
from heliostat.data.tasks import StepModels
from heliostat.storage import Storage

WORDS = [
    "the",
    "mirrors",
    "of",
    "a",
    "field",
    "follow",
    "the",
    "sun",
    "and",
    "throw",
    "its",
    "light",
    "onto",
    "one",
    "tower",
    "where",
    "salt",
    "melts",
]


def prose(seed: int, length: int = 300) -> str:
    """Different text for each seed; two of them share hardly a run of five words."""
    chance = random.Random(seed)
    endings = ["", "ing", "ed", "er", "ness", "ly", "ful"]
    return " ".join(chance.choice(WORDS) + chance.choice(endings) for _ in range(length))


def with_changed_words(text: str, count: int, seed: int = 0) -> str:
    words, chance = text.split(), random.Random(seed)
    for at in chance.sample(range(len(words)), count):
        words[at] = "or"
    return " ".join(words)


def config(path: Path, **values) -> DataConfig:
    source = {"kind": "jsonl", "path": str(path), "domain": "d"}
    return DataConfig.model_validate({"sources": [source], "tokenize": {"max_sequence_length": 64}} | values)


def clean_only(made: DataConfig, folder: Path) -> dict[str, int]:
    """The last step's account, without a tokenizer."""
    step = clean(made.cleaning, StepModels(), Storage.at(folder / "scratch"), in_order).steps[-1]
    return {"read": step["read"], "kept": step["kept"]}


def rows_of(folder: Path, pattern: str) -> list[dict]:
    return [row for file in sorted(folder.glob(pattern)) for row in pq.read_table(file).to_pylist()]
