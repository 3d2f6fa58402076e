"""A trigram model over token ids: what a trained model has to beat on held-out documents."""

import numpy as np

from heliostat.text.ngram_model import BOUNDARY, estimate, mix, unit_nats, units_seen
from heliostat.tokenized import TokenizedDataset

ORDER = 3


def trigram_loss(train: TokenizedDataset, held_out: TokenizedDataset) -> tuple[float, int]:
    """Nats per token of `held_out`, and how many tokens that is, by interpolated modified Kneser-Ney.

    Like a model's loss it leaves out the first token of each document, which has nothing in front of it; both
    read the same packed pieces.
    """
    table = estimate(_documents(train), ORDER)
    units = _documents(held_out)
    nats, _ = unit_nats(table, ORDER, units, units_seen(units))
    borders = np.flatnonzero(units == BOUNDARY[0])
    scored = np.ones(len(units), dtype=bool)
    scored[borders] = False
    scored[borders[:-1] + 1] = False
    return float(nats[scored].mean()), int(scored.sum())


def _documents(dataset: TokenizedDataset) -> np.ndarray:
    """The ids of all documents as hashes, with a boundary around each."""
    parts = [BOUNDARY]
    for position in range(len(dataset)):
        sequence = dataset[position]
        ids = mix(sequence.input_ids.astype(np.uint64) + np.uint64(1))
        for document in np.split(ids, np.cumsum(sequence.document_lengths)[:-1]):
            parts += [document, BOUNDARY]
    return np.concatenate(parts)
