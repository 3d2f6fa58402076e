"""The documents a compression is calibrated on: pure selection over a tokenized dataset."""

import numpy as np

from heliostat.compression.config import CalibrationConfig
from heliostat.tokenized import TokenizedDataset


def calibration_documents(dataset: TokenizedDataset, config: CalibrationConfig) -> list[np.ndarray]:
    """Token ids, (length,) int64 each, of documents drawn at random from the split, always the same ones.

    One document each, as models are asked: packed ones would read each other.

    Raises:
        DataError: the split holds nothing.
    """
    split = dataset.of_split(config.split)
    documents: list[np.ndarray] = []
    for row in np.random.default_rng(0).permutation(len(split)).tolist():
        documents += [document.input_ids.astype(np.int64) for document in split[row].documents()]
        if len(documents) >= config.num_documents:
            break
    return documents[: config.num_documents]
