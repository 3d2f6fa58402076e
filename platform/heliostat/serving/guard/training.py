"""Training the guard's classifier: logistic regression over hashed n-grams, in seconds on one core."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heliostat.errors import DataError
from heliostat.serving.guard.classifier import WINDOW, Classifier
from heliostat.serving.guard.features import LEAST_GRAMS, NUM_SLOTS, distinct_slots
from heliostat.serving.guard.folding import fold, lowered

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEED_EXAMPLES = Path(__file__).parent / "malicious_instructions.jsonl"
"""Texts written for this purpose: 1 tries to turn a model against its instructions, 0 does not."""
SEED_BACKGROUND = Path(__file__).parent / "malicious_instructions_made.jsonl"
"""Texts put together from parts, of both kinds: learned from, and never part of what is held out."""
_FOLDS = 5
_THRESHOLDS = (0.5, 0.8, 0.9, 0.95)
_LEAST_ROWS = 20


@dataclass(frozen=True)
class Example:
    """A text and whether it is what is looked for."""

    text: str
    label: int


def read_examples(path: Path) -> list[Example]:
    """The rows of a JSON Lines file, each with `text` and `label` (0 or 1).

    Raises:
        DataError: a row is something else; the line is named.
    """
    examples: list[Example] = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}; give a JSON Lines file in UTF-8") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            examples.append(_example(path, number, line))
    return examples


def _example(path: Path, number: int, line: str) -> Example:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    right = isinstance(row, dict) and isinstance(row.get("text"), str) and row.get("label") in (0, 1)
    if not right:
        raise DataError(f'{path}:{number}: not a row like {{"text": "...", "label": 1}} (or label 0)')
    return Example(row["text"], int(row["label"]))


def documentation(most: int = 1000) -> list[Example]:
    """Paragraphs of Python's own reference, in which nobody attacks anything: every installation has them."""
    from pydoc_data.topics import topics

    paragraphs = [part for name in sorted(topics) for part in topics[name].split("\n\n") if len(part) > 80]
    step = max(1, len(paragraphs) // most)
    return [Example(part[:WINDOW], 0) for part in paragraphs[::step][:most]]


def train_classifier(
    examples: Sequence[Example], background: Sequence[Example] = (), epochs: int = 12, seed: int = 0
) -> Classifier:
    """A classifier of `examples`; each fifth of them was held out in turn to see how good it is.

    `background` is learned from as well, and is never held out. The same input makes the same classifier.
    `facts["held_out"]` has precision and recall by threshold, over all examples.

    Raises:
        DataError: there are too few examples, or all have one label.
    """
    import numpy as np

    labels = {example.label for example in examples}
    if len(examples) < _LEAST_ROWS or len(labels) < 2:
        raise DataError(
            f"{len(examples)} rows with the labels {sorted(labels)}: at least {_LEAST_ROWS} rows are needed, "
            "some with label 1 and some with label 0"
        )
    order = np.random.default_rng(seed).permutation(len(examples)).tolist()
    scored: list[tuple[float, int]] = []
    for fold_number in range(_FOLDS):
        held = set(order[fold_number::_FOLDS])
        known = [example for number, example in enumerate(examples) if number not in held]
        judge = Classifier(*_fit([*known, *background], epochs, seed), {})
        scored += [(judge.score(_seen(examples[at].text)), examples[at].label) for at in sorted(held)]
    facts = {
        "rows": len(examples),
        "positive": sum(example.label for example in examples),
        "background": len(background),
        "held_out": {str(threshold): _figures(scored, threshold) for threshold in _THRESHOLDS},
    }
    return Classifier(*_fit([*examples, *background], epochs, seed), facts)


def _figures(scored: list[tuple[float, int]], threshold: float) -> dict[str, float]:
    found = [label for score, label in scored if score >= threshold]
    positive = sum(label for _, label in scored)
    return {
        "precision": round(sum(found) / len(found), 3) if found else 0.0,
        "recall": round(sum(found) / positive, 3) if positive else 0.0,
    }


def _seen(text: str) -> str:
    return lowered(fold(text))


def _vectors(examples: Sequence[Example]) -> "Iterator[tuple[NDArray[np.int64], NDArray[np.float64], int]]":
    """Of each stretch of each text: its slots, their values, the label."""
    import numpy as np

    for example in examples:
        text = _seen(example.text)
        for at in range(0, max(len(text), 1), WINDOW):
            slots = distinct_slots(text[at : at + WINDOW])
            if len(slots):
                yield slots, np.full(len(slots), max(len(slots), LEAST_GRAMS) ** -0.5), example.label


def _fit(examples: Sequence[Example], epochs: int, seed: int) -> "tuple[NDArray[np.float32], float]":
    """Stochastic gradients with Adagrad's steps (Duchi et al. 2011); both labels weigh the same in sum."""
    import numpy as np

    rows = list(_vectors(examples))
    positive = max(sum(label for *_, label in rows), 1)
    importance = len(rows) / (2 * max(len(rows) - positive, 1)), len(rows) / (2 * positive)
    weights, squares = np.zeros(NUM_SLOTS), np.full(NUM_SLOTS, 1e-2)
    bias, bias_square = 0.0, 1.0
    random = np.random.default_rng(seed)
    for _ in range(epochs):
        for number in random.permutation(len(rows)):
            slots, values, label = rows[number]
            logit = float(weights[slots] @ values) + bias
            error = (1 / (1 + np.exp(-np.clip(logit, -60, 60))) - label) * importance[label]
            slope = error * values + 1e-4 * weights[slots]
            squares[slots] += slope * slope
            weights[slots] -= 0.3 * slope / np.sqrt(squares[slots])
            bias_square += error * error
            bias -= 0.3 * error / np.sqrt(bias_square)
    return weights.astype(np.float32), float(bias)
