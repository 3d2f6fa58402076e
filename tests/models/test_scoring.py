"""Packed documents must not read each other: the loss of a pack is the sum of its documents' losses."""

import numpy as np
import pytest
from small_artifacts import pack

from heliostat.models.loading import load_model
from heliostat.models.scoring import summed_loss, to_tensors
from heliostat.tokenized import IGNORED, PackedSequence, collate


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    """The tiny model with attention made sharp, so that reading another document would show."""
    import torch

    model = load_model(tiny_model_folder)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.mul_(25)
    return model


@pytest.fixture(scope="module")
def packs(tiny_model_folder) -> list[PackedSequence]:
    packed = pack(tiny_model_folder, count=12, max_sequence_length=200)
    assert max(len(each.document_lengths) for each in packed) >= 2
    return packed


def documents_of(pack: PackedSequence) -> list[PackedSequence]:
    borders = np.cumsum([0, *pack.document_lengths])
    return [
        PackedSequence(pack.input_ids[start:end], pack.loss_mask[start:end], (int(end - start),), (name,))
        for start, end, name in zip(borders[:-1], borders[1:], pack.document_ids, strict=True)
    ]


def loss_of(model, sequences) -> float:
    import torch

    with torch.inference_mode():
        return float(summed_loss(model, to_tensors(collate(sequences, padding_id=2))))


@pytest.mark.parametrize("batch_size", [1, 2])
def test_packed_loss_is_the_sum_of_the_documents_losses(model, packs, batch_size):
    packed = sum(loss_of(model, packs[i : i + batch_size]) for i in range(0, len(packs), batch_size))
    alone = sum(loss_of(model, [document]) for pack in packs for document in documents_of(pack))
    assert packed == pytest.approx(alone, rel=1e-4)


def plain_loss(model, pack: PackedSequence, **options) -> float:
    """The loss as transformers gives it when it is called in the usual ways."""
    import torch

    batch = to_tensors(collate([pack], padding_id=2))
    with torch.inference_mode():
        logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], **options).logits
    return float(
        torch.nn.functional.cross_entropy(
            logits[0, :-1], batch["labels"][0, 1:], ignore_index=IGNORED, reduction="sum"
        )
    )


def test_only_without_cache_and_mask_are_documents_kept_apart(model, packs):
    """If this fails, transformers has changed, and `summed_loss` may be simplified, or must be mended."""
    import torch

    pack = next(each for each in packs if len(each.document_lengths) >= 2)
    right = loss_of(model, [pack])
    assert plain_loss(model, pack, use_cache=False) == pytest.approx(right, rel=1e-4)
    assert plain_loss(model, pack) != pytest.approx(right, rel=1e-3)
    mask = torch.ones(1, len(pack.input_ids), dtype=torch.long)
    assert plain_loss(model, pack, use_cache=False, attention_mask=mask) != pytest.approx(right, rel=1e-3)
