"""A sparse lookup gives tied embeddings the dense gradient they had."""

import pytest
import torch
from small_artifacts import pack
from small_models import small_llama

from heliostat.models.loading import load_model
from heliostat.models.scoring import summed_loss, to_tensors
from heliostat.tokenized import collate
from heliostat.training.config import LayoutConfig
from heliostat.training.tied_embedding import use_sparse_lookup


def test_the_gradient_is_dense_and_the_same_over_several_micro_batches(tmp_path):
    folder = small_llama(tmp_path, tie_word_embeddings=True)
    packs = pack(folder, count=8, max_sequence_length=128)
    models = load_model(folder), load_model(folder)
    assert use_sparse_lookup(models[1], LayoutConfig())
    for model in models:
        for each in packs[:2]:
            summed_loss(model, to_tensors(collate([each], padding_id=2))).backward()
    expected, found = (model.get_input_embeddings().weight.grad for model in models)
    assert found.layout == torch.strided
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("tied", "trained", "layout"),
    [
        (False, True, {}),
        (True, False, {}),
        (True, True, {"zero": {"stage": 3}}),
        (True, True, {"tensor_parallel": 2}),
        (True, True, {"pipeline_parallel": 2}),
    ],
)
def test_what_is_not_added_to_a_dense_gradient_stays_dense(tmp_path, tied, trained, layout):
    model = load_model(small_llama(tmp_path, tie_word_embeddings=tied)).requires_grad_(trained)
    assert not use_sparse_lookup(model, LayoutConfig.model_validate(layout))
    assert not model.get_input_embeddings().sparse
