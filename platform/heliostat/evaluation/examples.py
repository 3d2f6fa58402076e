"""One line for each example of a suite: what was asked, what came, and what it scored.

A score is a number, or the sums that a metric is made of: `[numerator, denominator]` for a ratio such as a
perplexity, more for BLEU and chrF. How sums become a metric's value is `metrics.value_of`.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from heliostat.errors import ArtifactError
from heliostat.records import Record

EXAMPLES_FOLDER = "examples"


class Example(Record):
    """An example that was scored. `prompt` is the text or the messages that were sent."""

    id: str
    scores: dict[str, float | list[float]]
    group: str | None = None
    prompt: Any = None
    target: Any = None
    output: Any = None


def examples_file(folder: Path, model: str, suite: str) -> Path:
    """Where a report's folder keeps the examples of a model and a suite."""
    return folder / EXAMPLES_FOLDER / model / f"{suite}.jsonl"


def write_examples(file: Path, examples: Iterable[Example]) -> None:
    """Write a line for each."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as stream:
        for example in examples:
            stream.write(json.dumps(example.model_dump(), ensure_ascii=False) + "\n")


def read_examples(file: Path) -> list[Example]:
    """The examples of a model and a suite, in the order of their file.

    Raises:
        ArtifactError: the file is missing or is not what a report holds.
    """
    try:
        with file.open(encoding="utf-8") as stream:
            return [Example.model_validate_json(line) for line in stream]
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"{file}: cannot be read ({reason}); evaluate the model again") from None


def sums_of(examples: Iterable[Example], metric: str) -> np.ndarray:
    """A metric's sums for each example that has it, (num_examples, num_sums); a number x is [x, 1]."""
    scores = [example.scores[metric] for example in examples if metric in example.scores]
    return np.array([each if isinstance(each, list) else [each, 1.0] for each in scores], dtype=np.float64)
