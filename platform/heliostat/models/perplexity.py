"""Token-weighted perplexity of a model folder on a split: exp(summed loss / number of labels).

Two kinds of folder are scored, on the same documents in the same order: transformers' through `summed_loss`,
packed as in training, and OpenVINO's (`openvino_model.xml`) one document at a time, each from an empty cache.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from heliostat.errors import DataError, ModelError
from heliostat.progress import Report
from heliostat.tokenized import IGNORED, PackedSequence, TokenizedDataset, collate

OPENVINO_MODEL_NAME = "openvino_model.xml"
LABELS_AT_ONCE = 256  # rows of logits turned into losses at once: 50 MB for a vocabulary of 49,152


@dataclass(frozen=True)
class Limits:
    """How much of a split is scored, and how."""

    max_tokens: int | None = None
    micro_batch_size: int = 1
    num_threads: int = 1


@dataclass(frozen=True)
class DocumentLoss:
    """The loss of a document, or of the part of it that is in one sequence."""

    id: str
    loss_sum: float
    num_labels: int


@dataclass(frozen=True)
class Score:
    """What has been scored so far; the last one of a run is its result. `documents`: the latest batch's."""

    loss_sum: float = 0.0
    num_labels: int = 0
    num_tokens: int = 0
    num_documents: int = 0
    seconds: float = 0.0
    documents: tuple[DocumentLoss, ...] = ()

    @property
    def loss(self) -> float:
        """Mean loss of a label, in nats."""
        return self.loss_sum / self.num_labels

    @property
    def perplexity(self) -> float:
        """exp of the mean loss."""
        return math.exp(self.loss)


def measure_perplexity(
    folder: Path, dataset: TokenizedDataset, limits: Limits, report: Report | None = None
) -> Score:
    """Score a folder to the end; `report` is called with the number of tokens done.

    Raises:
        DataError: there is no label in what is to be scored.
        ModelError: the folder cannot be loaded, or its losses are not numbers.
    """
    score = Score()
    for score in running_score(folder, dataset, limits):
        if report:
            report(score.num_tokens)
    return score


def running_score(folder: Path, dataset: TokenizedDataset, limits: Limits) -> Iterator[Score]:
    """The score after each batch; errors as `measure_perplexity`."""
    sequences = [dataset[row] for row in rows_within(dataset, limits.max_tokens)]
    if not any((sequence.labels() != IGNORED).any() for sequence in sequences):
        raise DataError(
            f"the first {len(sequences)} sequences of the '{dataset.split}' split hold nothing to score; "
            "raise max_tokens, or check the data's loss mask"
        )
    exported = (folder / OPENVINO_MODEL_NAME).is_file()
    losses = (_openvino_losses if exported else _transformers_losses)(folder, sequences, limits)
    started, score = time.monotonic(), Score()
    for batch, documents in losses:
        loss_sum = math.fsum(each.loss_sum for each in documents)
        if not math.isfinite(loss_sum):
            raise ModelError(f"{folder}: its loss is {loss_sum}; the weights are broken")
        score = Score(
            loss_sum=score.loss_sum + loss_sum,
            num_labels=score.num_labels + sum(int((one.labels() != IGNORED).sum()) for one in batch),
            num_tokens=score.num_tokens + sum(len(one.input_ids) for one in batch),
            num_documents=score.num_documents + sum(len(one.document_lengths) for one in batch),
            seconds=time.monotonic() - started,
            documents=tuple(documents),
        )
        yield score


def rows_within(dataset: TokenizedDataset, max_tokens: int | None) -> list[int]:
    """Sequences of a split that hold at most `max_tokens` tokens together, and at least one; rising.

    They are drawn at random, always the same: the first ones would all come from the first sources.
    """
    if max_tokens is None:
        return list(range(len(dataset)))
    rows: list[int] = []
    tokens = 0
    for row in np.random.default_rng(0).permutation(len(dataset)).tolist():
        tokens += len(dataset[row].input_ids)
        if rows and tokens > max_tokens:
            break
        rows.append(row)
    return sorted(rows)


def tokens_within(dataset: TokenizedDataset, max_tokens: int | None) -> int:
    """How many tokens `rows_within` selects: the total that progress is shown against."""
    return sum(len(dataset[row].input_ids) for row in rows_within(dataset, max_tokens))


Losses = Iterator[tuple[list[PackedSequence], list[DocumentLoss]]]


def _transformers_losses(folder: Path, sequences: list[PackedSequence], limits: Limits) -> Losses:
    import torch

    from heliostat.models.loading import load_model

    torch.set_num_threads(limits.num_threads)
    model = load_model(folder).eval()
    padding_id = model.config.pad_token_id or 0
    for start in range(0, len(sequences), limits.micro_batch_size):
        batch = sequences[start : start + limits.micro_batch_size]
        rows = packed_losses(model, batch, padding_id)
        yield batch, [loss for row in rows for loss in row]


def packed_losses(
    model: Any, batch: list[PackedSequence], padding_id: int, device: str = "cpu"
) -> list[list[DocumentLoss]]:
    """The losses of each row's documents under a loaded model."""
    import torch

    from heliostat.models.scoring import label_losses, labelled_logits, to_tensors

    arrays = collate(batch, padding_id)
    with torch.inference_mode():
        losses = label_losses(*labelled_logits(model, to_tensors(arrays, device))).double().cpu().numpy()
    positions = np.flatnonzero((arrays["labels"][:, 1:] != IGNORED).any(axis=0)) + 1
    return [_split(one, positions, row) for one, row in zip(batch, losses, strict=True)]


def _split(sequence: PackedSequence, positions: np.ndarray, losses: np.ndarray) -> list[DocumentLoss]:
    """A row's losses by its documents; `losses` (k,): of the labels at `positions`, 0 without one."""
    borders = np.cumsum([0, *sequence.document_lengths])
    sums = np.concatenate([[0.0], np.cumsum(losses)])[np.searchsorted(positions, borders)]
    labels = sequence.labels() != IGNORED
    return [
        DocumentLoss(name, float(sums[at + 1] - sums[at]), int(labels[start:end].sum()))
        for at, ((start, end), name) in enumerate(zip(pairwise(borders), sequence.document_ids, strict=True))
    ]


def _openvino_losses(folder: Path, sequences: list[PackedSequence], limits: Limits) -> Losses:
    request = open_exported(folder, limits.num_threads)
    for sequence in sequences:
        yield [sequence], exported_losses(request, sequence)


def open_exported(folder: Path, num_threads: int) -> Any:
    """An inference request of an OpenVINO folder's model, whose state is its cache; float32 arithmetic.

    Raises:
        ModelError: it cannot be loaded.
    """
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": num_threads}
    try:
        compiled = openvino.Core().compile_model(folder / OPENVINO_MODEL_NAME, "CPU", settings)
    except RuntimeError as error:
        raise ModelError(
            f"{folder / OPENVINO_MODEL_NAME}: cannot be loaded: {str(error).splitlines()[0]}"
        ) from None
    return compiled.create_infer_request()


def exported_losses(request: Any, sequence: PackedSequence) -> list[DocumentLoss]:
    """The losses of a row's documents, each from an empty cache."""
    borders = np.cumsum([0, *sequence.document_lengths])
    labels = sequence.labels()
    return [
        DocumentLoss(
            name,
            _document_loss(request, sequence.input_ids[start:end], labels[start:end]),
            int((labels[start:end] != IGNORED).sum()),
        )
        for (start, end), name in zip(pairwise(borders), sequence.document_ids, strict=True)
    ]


def exported_logits(request: Any, input_ids: np.ndarray, position: int) -> np.ndarray:
    """Logits behind each of (length,) ids that come at `position` of what the cache holds so far.

    (length, vocabulary), row t predicts token t + 1; valid until the next call.
    """
    length = len(input_ids)
    request.infer(
        {
            "input_ids": input_ids[None].astype(np.int64),
            "attention_mask": np.ones((1, position + length), dtype=np.int64),
            "position_ids": np.arange(position, position + length, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, dtype=np.int32),
        }
    )
    logits: np.ndarray = request.get_tensor("logits").data[0]
    return logits


def log_likelihoods(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The log-probability in nats of each label, (k,) float64, under its row of logits, (k, vocabulary)."""
    parts = [np.zeros(0)]
    for start in range(0, len(labels), LABELS_AT_ONCE):
        rows = logits[start : start + LABELS_AT_ONCE].astype(np.float32)
        rows -= rows.max(axis=1, keepdims=True)
        picked = rows[np.arange(len(rows)), labels[start : start + LABELS_AT_ONCE]]
        parts.append(picked - np.log(np.exp(rows).sum(axis=1, dtype=np.float64)))
    return np.concatenate(parts)


def _document_loss(request: Any, input_ids: np.ndarray, labels: np.ndarray) -> float:
    """The summed cross entropy of one document; what comes behind its last label need not be read."""
    learned = np.flatnonzero(labels != IGNORED)
    if not len(learned):
        return 0.0
    request.reset_state()
    logits = exported_logits(request, input_ids[: int(learned[-1])], 0)
    return -float(
        sum(
            log_likelihoods(logits[chosen - 1], labels[chosen]).sum()
            for chosen in np.split(learned, range(LABELS_AT_ONCE, len(learned), LABELS_AT_ONCE))
        )
    )
