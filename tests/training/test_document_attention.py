"""Attention document by document has the losses and gradients that the dense mask has, on all its kinds."""

import pytest
import torch
import transformers
from small_artifacts import pack
from small_models import small_deepseek, small_llama

from heliostat.models.loading import load_model
from heliostat.models.scoring import summed_loss, to_tensors
from heliostat.tokenized import collate
from heliostat.training.document_attention import NAME, use_document_attention


def made_like(folder, name, **settings):
    """Another architecture in the small Llama's sizes."""
    config = load_model(small_llama(folder)).config.to_dict()
    kept = ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    kinds = getattr(transformers, f"{name}Config"), getattr(transformers, f"{name}ForCausalLM")
    made = kinds[0](**{each: config[each] for each in kept}, num_hidden_layers=2, **settings)
    kinds[1](made).save_pretrained(folder)
    return folder


MODELS = {
    "llama": small_llama,
    "deepseek": small_deepseek,
    "mixtral": lambda folder: made_like(folder, "Mixtral", num_local_experts=4),
    "qwen": lambda folder: made_like(folder, "Qwen3", head_dim=16),
    "window": lambda folder: made_like(folder, "Mistral", sliding_window=10),
}


def sharpened(model):
    """Attention that looks at single tokens, so that looking at a wrong one shows."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name and "expert" not in name and "gate" not in name:
                weight.mul_(5)
    return model


def loss_and_gradients(model, batch):
    model.train()
    loss = summed_loss(model, batch)
    loss.backward()
    return loss.item(), {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("kind", MODELS)
def test_losses_and_gradients_are_those_of_the_dense_mask(tmp_path, kind, rows, monkeypatch):
    folder = MODELS[kind](tmp_path)
    packs = pack(folder, count=12, max_sequence_length=200)
    assert max(len(each.document_lengths) for each in packs[:rows]) >= 2
    batch = to_tensors(collate(packs[:rows], padding_id=2))
    expected_loss, expected = loss_and_gradients(sharpened(load_model(folder)), batch)
    model = sharpened(load_model(folder))
    use_document_attention(model)
    called = []
    attention = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: called.append(kwargs["is_causal"]) or attention(*args, **kwargs),
    )
    loss, gradients = loss_and_gradients(model, batch)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    for name, gradient in expected.items():
        assert torch.allclose(gradients[name], gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max()), name
    assert all(called) == (kind != "window"), "a window is not a document's border"


def test_a_cache_or_padding_is_left_to_transformers(tmp_path):
    folder = small_llama(tmp_path)
    plain, model = sharpened(load_model(folder)), sharpened(load_model(folder))
    use_document_attention(model)
    assert model.config._attn_implementation == NAME
    ids = torch.tensor([[2, 2, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14]])
    inputs = {"input_ids": ids, "attention_mask": (ids > 2).long()}
    with torch.inference_mode():
        expected, found = plain(**inputs).logits, model(**inputs).logits
        assert torch.equal(found[inputs["attention_mask"] > 0], expected[inputs["attention_mask"] > 0])
        options = {"max_new_tokens": 5, "do_sample": False}
        assert torch.equal(model.generate(**inputs, **options), plain.generate(**inputs, **options))
