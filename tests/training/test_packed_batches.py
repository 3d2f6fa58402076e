"""Batches of packed rows, whole and in pieces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_artifacts import publish_dataset

from heliostat.storage import artifact_folder
from heliostat.tokenized import IGNORED, TokenizedDataset
from heliostat.training.objectives.packed import PackedBatches, cut_rows


@given(length=st.integers(1, 40), rows=st.integers(1, 3), count=st.integers(1, 5))
def test_pieces_put_together_are_the_row_and_each_label_is_predicted_once(length, rows, count):
    chance = np.random.default_rng(length)
    batch = {
        "input_ids": chance.integers(0, 9, (rows, length)),
        "labels": chance.choice([IGNORED, 3, 4], (rows, length)),
        "position_ids": np.tile(np.arange(length), (rows, 1)),
    }
    pieces = [cut_rows(batch, number, count, padding_id=7) for number in range(count)]
    sizes = {piece["input_ids"].shape for piece in pieces}
    assert len(sizes) == 1, "all as long"
    for name, fill in (("input_ids", 7), ("position_ids", 0)):
        together = np.concatenate([piece[name] for piece in pieces], axis=1)
        assert np.array_equal(together[:, :length], batch[name])
        assert (together[:, length:] == fill).all()
    # what a position predicts is the label behind it
    predicted = [piece["labels"][:, 1 : piece["input_ids"].shape[1] + 1] for piece in pieces]
    together = np.concatenate(predicted, axis=1)
    assert np.array_equal(together[:, : length - 1], batch["labels"][:, 1:])
    assert (together[:, length - 1 :] == IGNORED).all()


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_a_batch_says_where_it_is_only_filled_up(workspace, tiny_model_folder, pieces):
    folder = artifact_folder(publish_dataset(workspace, tiny_model_folder, count=12, max_sequence_length=100))
    dataset = TokenizedDataset(folder, "train")
    objectives = [PackedBatches(dataset, 0).piece(number, pieces) for number in range(pieces)]
    for objective in objectives:
        assert objective.batch([0, 1, 2], "cpu")["input_ids"].shape == objective.padding.shape
    real = sum(int((~objective.padding).sum()) for objective in objectives)
    assert real == objectives[0].num_tokens([0, 1, 2])
