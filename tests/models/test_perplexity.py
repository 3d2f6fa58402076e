"""Perplexity of a transformers folder; that of an exported one is compared with it in tests/compression."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from small_artifacts import publish_dataset

from heliostat.errors import DataError
from heliostat.models.loading import load_model
from heliostat.models.perplexity import Limits, measure_perplexity, rows_within, tokens_within
from heliostat.storage import artifact_folder
from heliostat.tokenized import IGNORED, TokenizedDataset, write_part


@pytest.fixture
def dataset(workspace, tiny_model_folder) -> TokenizedDataset:
    return TokenizedDataset(artifact_folder(publish_dataset(workspace, tiny_model_folder)), "test")


def test_it_is_exp_of_the_mean_loss_of_the_labels(tiny_model_folder, dataset):
    import torch

    model = load_model(tiny_model_folder)
    loss_sum, num_labels = 0.0, 0
    for row in range(len(dataset)):
        sequence = dataset[row]
        borders = np.cumsum([0, *sequence.document_lengths])
        for start, end in pairwise(borders):
            ids = torch.tensor(sequence.input_ids[start:end], dtype=torch.long)
            with torch.inference_mode():
                log_probabilities = model(ids[None]).logits[0].log_softmax(-1)
            for position, label in enumerate(sequence.labels()[start:end]):
                if label != IGNORED:
                    loss_sum -= float(log_probabilities[position - 1, label])
                    num_labels += 1
    score = measure_perplexity(tiny_model_folder, dataset, Limits())
    assert score.num_labels == num_labels == sum(dataset.num_labels)
    assert score.perplexity == pytest.approx(math.exp(loss_sum / num_labels), rel=1e-5)


def test_batches_and_repetition_change_nothing(tiny_model_folder, dataset):
    one = measure_perplexity(tiny_model_folder, dataset, Limits())
    two = measure_perplexity(tiny_model_folder, dataset, Limits(micro_batch_size=2))
    assert two.perplexity == pytest.approx(one.perplexity, rel=1e-6)
    assert measure_perplexity(tiny_model_folder, dataset, Limits()).loss_sum == one.loss_sum
    assert (two.num_labels, two.num_documents) == (one.num_labels, one.num_documents)


def test_max_tokens_takes_whole_sequences_and_at_least_one(dataset):
    lengths = [len(dataset[row].input_ids) for row in range(len(dataset))]
    [first] = rows_within(dataset, 1)
    assert rows_within(dataset, 10**9) == rows_within(dataset, None) == list(range(len(dataset)))
    for limit in (lengths[first], sum(lengths) // 2, sum(lengths) - 1):
        rows = rows_within(dataset, limit)
        assert rows == sorted(set(rows))
        assert first in rows
        assert sum(lengths[row] for row in rows) <= limit
    assert tokens_within(dataset, 10**9) == sum(lengths)


def test_progress_ends_at_the_number_of_tokens(tiny_model_folder, dataset):
    seen: list[float] = []
    limits = Limits(max_tokens=300)
    measure_perplexity(tiny_model_folder, dataset, limits, lambda done, note="": seen.append(done))
    assert seen == sorted(seen)
    assert seen[-1] == tokens_within(dataset, 300)


def test_documents_without_anything_learned_are_refused(tmp_path, tiny_model_folder, dataset):
    sequence = dataset[0]
    blank = replace(sequence, loss_mask=np.zeros_like(sequence.loss_mask))
    part = write_part(tmp_path / "test" / "part-00000.parquet", [blank])
    (tmp_path / "index.json").write_text(json.dumps({"splits": {"test": [part]}}))
    with pytest.raises(DataError, match="nothing to score"):
        measure_perplexity(tiny_model_folder, TokenizedDataset(tmp_path, "test"), Limits())
