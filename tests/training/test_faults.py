import json

import numpy as np
import pytest
from small_artifacts import pack

from heliostat.models.loading import load_model
from heliostat.models.scoring import summed_loss, to_tensors
from heliostat.tokenized import IGNORED, collate
from heliostat.training.adapters import apply_adapter
from heliostat.training.config import LoraAdapter
from heliostat.training.faults import LOSS, NotFinite, find_not_finite, save_batch

MIDDLE = "model.layers.1.mlp.down_proj"


@pytest.fixture
def model(tiny_model_folder):
    return load_model(tiny_model_folder)


@pytest.fixture(scope="module")
def sequences(tiny_model_folder):
    return pack(tiny_model_folder, 12, 128)[:2]


def find(model, sequences, change_loss=lambda loss: loss) -> NotFinite | None:
    batch = to_tensors(collate(sequences, padding_id=2))
    found, _ = find_not_finite(
        model, lambda: change_loss(summed_loss(model, batch)), [each.document_ids for each in sequences]
    )
    return found


def all_documents(sequences) -> tuple[str, ...]:
    return tuple(name for sequence in sequences for name in sequence.document_ids)


def test_nothing_is_found_in_a_sound_model_and_nothing_is_left_behind(model, sequences):
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    assert find(model, sequences) is None
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all((parameter == before[name]).all() for name, parameter in model.named_parameters())
    assert not model._forward_hooks
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(parameter._backward_hooks for parameter in model.parameters())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_named_with_its_row(model, sequences, value):
    model.get_submodule(MIDDLE).weight.data[17, 3] = value
    found = find(model, sequences)
    assert (found.layer, found.tensor) == (f"{MIDDLE}.weight", "weight")
    assert found.where == "row 17 of 64"
    assert found.document_ids == all_documents(sequences)
    assert f"weight of {MIDDLE}.weight (row 17 of 64) is not finite" in found.message(5)


def test_a_spoilt_embedding_is_named_with_the_documents_that_use_the_token(model, sequences):
    counts = {
        token: [
            name
            for sequence in sequences
            for name, ids in zip(
                sequence.document_ids,
                np.split(sequence.input_ids, np.cumsum(sequence.document_lengths)[:-1]),
                strict=True,
            )
            if token in ids
        ]
        for token in range(3, 600)
    }
    token = next(token for token, names in counts.items() if len(names) == 1)
    model.get_input_embeddings().weight.data[token] = float("nan")
    found = find(model, sequences)
    assert (found.layer, found.tensor) == ("model.embed_tokens.weight", "weight")
    assert found.where == f"row {token} of {model.config.vocab_size}"
    assert list(found.document_ids) == counts[token]


def test_a_spoilt_embedding_that_no_document_uses_does_no_harm(model, sequences):
    unused = next(
        token for token in range(3, 600) if not any(token in sequence.input_ids for sequence in sequences)
    )
    model.get_input_embeddings().weight.data[unused] = float("nan")
    assert find(model, sequences) is None


def test_an_activation_that_overflows_is_told_from_a_weight(model, sequences):
    model.get_submodule(MIDDLE).weight.data *= 1e38
    model.get_submodule("model.layers.1.mlp.up_proj").weight.data *= 1e6
    found = find(model, sequences)
    assert (found.layer, found.tensor) == (MIDDLE, "activation")


def test_a_loss_that_overflows_though_all_layers_are_finite_is_told(model, sequences):
    found = find(model, sequences, lambda loss: loss * 1e38)
    assert (found.layer, found.tensor) == (LOSS, "activation")
    assert found.document_ids == all_documents(sequences)


def test_gradients_that_overflow_are_named_from_where_the_backward_pass_met_them_first(model, sequences):
    def steep(loss):
        still = (model.get_submodule(MIDDLE).weight * 0).abs().sum()
        return loss + still.sqrt()  # its slope at 0 is infinite

    found = find(model, sequences, steep)
    assert (found.layer, found.tensor) == (f"{MIDDLE}.weight", "gradient")


def test_an_adapters_weight_is_found_in_a_frozen_model(model, sequences):
    lora = apply_adapter(model, LoraAdapter(r=2))
    name = "base_model.model.model.layers.0.self_attn.v_proj.lora_B.default"
    lora.get_submodule(name).weight.data[0, 0] = float("nan")
    found = find(lora, sequences)
    assert (found.layer, found.tensor) == (f"{name}.weight", "weight")


def test_a_model_computing_in_bfloat16_is_searched_too(tiny_model_folder, sequences):
    model = load_model(tiny_model_folder, "bfloat16")
    assert find(model, sequences) is None
    model.get_submodule(MIDDLE).weight.data[0, 0] = float("inf")
    assert find(model, sequences).layer == f"{MIDDLE}.weight"


def test_rows_that_are_not_known_by_document_name_them_all(model, sequences):
    model.get_submodule(MIDDLE).weight.data[0, 0] = float("nan")
    batch = to_tensors(collate(sequences, padding_id=2))
    found, _ = find_not_finite(model, lambda: summed_loss(model, batch), [["chosen", "rejected"]])
    assert found.document_ids == ("chosen", "rejected")


def test_the_batch_is_kept_and_can_be_computed_again_without_unpickling(model, sequences, tmp_path):
    collated = collate(sequences, padding_id=2)
    model.get_submodule(MIDDLE).weight.data[0, 0] = float("nan")
    fault, arrays = find_not_finite(
        model,
        lambda: summed_loss(model, to_tensors(collated)),
        [each.document_ids for each in sequences],
    )
    file = save_batch(tmp_path / "faults", 12, 1, fault, arrays | {"labels": collated["labels"]})
    assert file.name == "step-12-rank-1.npz"
    with np.load(file, allow_pickle=False) as kept:
        assert set(collated) <= set(kept)
        assert all((kept[name] == collated[name]).all() for name in collated)
        assert (kept["labels"] != IGNORED).any()
        again = summed_loss(model, to_tensors({name: kept[name] for name in collated}))
    assert not again.isfinite()
    facts = json.loads(file.with_suffix(".json").read_text())
    assert facts["fault"]["layer"] == f"{MIDDLE}.weight"
    assert facts["fault"]["document_ids"] == list(all_documents(sequences))


def test_the_message_is_one_line_with_the_way_out():
    fault = NotFinite("model.norm", "activation", tuple("abcdef"))
    told = fault.message(9, saved_to="/runs/faults/step-9-rank-0.npz")
    assert told.startswith("step 9: activation of model.norm is not finite, in document(s) a, b, c, ...;")
    assert "learning_rate" in told
    assert "/runs/faults/step-9-rank-0.npz" in told
    assert "\n" not in told
