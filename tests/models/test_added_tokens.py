"""Tokens added to a model: it stays what it was for all others, and LoRA learns the new ones."""

import shutil

import pytest
import torch
from safetensors.torch import load_file
from small_artifacts import publish_model

from heliostat.errors import ConfigError
from heliostat.models.adapters import merge_adapter
from heliostat.models.added_tokens import ADDED_TOKENS, add_tokens
from heliostat.models.importing import import_model
from heliostat.models.loading import load_model, load_tokenizer, tokenizer_fingerprint
from heliostat.models.safety import check_model_folder
from heliostat.storage import artifact_folder
from heliostat.training.adapters import apply_adapter
from heliostat.training.config import LoraAdapter

TOKENS = ("<|mirror|>", "<|塔|>")
TEXT = "The mirrors of the field follow the sun; 光。"


@pytest.fixture(scope="module", params=["apart", "tied", "spare rows"])
def base_folder(request, tiny_model_folder, tmp_path_factory):
    """The tiny model with an output layer of its own, with a tied one, and with more rows than tokens."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    shutil.copytree(tiny_model_folder, folder)
    model = load_model(folder)
    if request.param == "tied":
        model.config.tie_word_embeddings = True
        model.tie_weights()
    if request.param == "spare rows":
        model.resize_token_embeddings(model.config.vocab_size + 40, mean_resizing=False)
    model.save_pretrained(folder)
    (folder / "LICENSE").write_text("Free as the sun.")
    return folder


@pytest.fixture
def extended(base_folder, workspace):
    return add_tokens(import_model(str(base_folder), workspace), TOKENS, workspace)


def logits(folder, ids):
    with torch.inference_mode():
        return load_model(folder).eval()(torch.tensor([ids])).logits


def test_the_model_is_what_it_was_for_all_other_tokens(base_folder, extended):
    folder = artifact_folder(extended)
    check_model_folder(folder)
    before, after = load_tokenizer(base_folder), load_tokenizer(folder)
    ids = after(TEXT)["input_ids"]
    assert ids == before(TEXT)["input_ids"]
    known = len(before)
    assert torch.equal(logits(folder, ids)[..., :known], logits(base_folder, ids)[..., :known])
    assert (folder / "LICENSE").read_text() == "Free as the sun."
    assert extended.facts["tokenizer"] == tokenizer_fingerprint(folder) != tokenizer_fingerprint(base_folder)
    assert extended.facts["chat_template"] is True


def test_each_token_is_one_id_whose_rows_are_the_mean_of_the_others(base_folder, extended):
    tokenizer, model = load_tokenizer(artifact_folder(extended)), load_model(artifact_folder(extended))
    new = extended.facts[ADDED_TOKENS]
    assert new == [len(load_tokenizer(base_folder)) + n for n in range(2)]
    assert tokenizer(f"light{TOKENS[1]}light{TOKENS[0]}")["input_ids"].count(new[1]) == 1
    assert tokenizer.decode([*tokenizer("光")["input_ids"], *new], skip_special_tokens=True) == "光"
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        torch.testing.assert_close(layer.weight[new[0]], layer.weight[: new[0]].mean(dim=0))
    ids = tokenizer(TEXT)["input_ids"]
    probabilities = logits(artifact_folder(extended), ids).softmax(-1)
    assert probabilities[..., new].max() < 0.01


def test_a_second_time_it_is_found_and_another_order_is_another_model(base_folder, extended, workspace):
    base = import_model(str(base_folder), workspace)
    assert add_tokens(base, TOKENS, workspace) == extended
    assert add_tokens(base, TOKENS[::-1], workspace).content != extended.content
    assert extended.parents == (base.id,)


def test_a_token_that_is_there_already_is_refused(tiny_model_folder, workspace):
    model = publish_model(workspace, tiny_model_folder)
    with pytest.raises(ConfigError, match=r"added_tokens: the model has '<\|im_end\|>' already") as refused:
        add_tokens(model, ("<|new|>", "<|im_end|>"), workspace)
    assert "\n" not in str(refused.value)


def test_lora_learns_the_new_rows_and_merging_keeps_them(extended, tmp_path):
    folder, new = artifact_folder(extended), extended.facts[ADDED_TOKENS]
    model = apply_adapter(load_model(folder), LoraAdapter(r=4, target_modules=("q_proj",)), new)
    ids = torch.tensor([[5, new[0], 7, new[1], 9, new[0]]])
    labels = torch.where(torch.isin(ids, torch.tensor(new)), ids, -100)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for _ in range(30):
        loss = model(ids, labels=labels).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0] / 10
    learned = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    model.save_pretrained(tmp_path / "adapter", state_dict=learned)  # as a training worker does
    merge_adapter(folder, tmp_path / "adapter", tmp_path / "merged")
    with torch.inference_mode():
        expected = model.eval()(ids).logits
    torch.testing.assert_close(logits(tmp_path / "merged", ids[0].tolist()), expected, atol=1e-4, rtol=1e-4)
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "merged/model.safetensors")
    rows = (after["model.embed_tokens.weight"] != before["model.embed_tokens.weight"]).any(dim=1)
    assert set(rows.nonzero().flatten().tolist()) <= set(new)
    assert rows[new[0]]
