"""What the steps learned about the documents that were kept, summed up: personal data, languages, scores."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heliostat.data.accounting import tables_of
from heliostat.data.config import Step
from heliostat.tokenized import SPLITS

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def found_in(folder: Path, steps: Sequence[Step]) -> dict[str, Any]:
    """Counts and quantiles over the `metadata` of the published documents, by the step that found them."""
    kinds = {step.kind for step in steps}
    pii, languages = Counter[str](), Counter[str]()
    scores: dict[str, list[float]] = {}
    for split in SPLITS:
        for table in tables_of(folder, split, ["metadata"]):
            for text in table["metadata"].drop_null().to_pylist():
                for name, value in json.loads(text).items():
                    if name not in kinds:
                        continue  # the source said it
                    if name == "pii":
                        pii.update(span[0] for span in value)
                    elif name == "language":
                        languages[value["language"]] += 1
                    elif (score := _score_of(value)) is not None:
                        scores.setdefault(name, []).append(score)
    return {
        "pii": dict(sorted(pii.items())),
        "languages": dict(languages.most_common()),
        "scores": {name: _quantiles(values) for name, values in sorted(scores.items())},
    }


def _score_of(value: Any) -> float | None:
    if isinstance(value, dict):
        value = value.get("score", value.get("similarity"))
    return float(value) if isinstance(value, float) else None


def _quantiles(values: list[float]) -> dict[str, float]:
    points = np.quantile(values, QUANTILES)
    return {
        f"p{quantile * 100:g}": round(float(value), 4)
        for quantile, value in zip(QUANTILES, points, strict=True)
    }
