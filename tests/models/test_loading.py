"""Loading what is whole, refusing what is not, and recognising a tokenizer again."""

import json
import shutil
from pathlib import Path

import pytest

from heliostat.errors import ModelError
from heliostat.models.loading import (
    check_architecture,
    has_chat_template,
    load_model,
    load_tokenizer,
    tokenizer_fingerprint,
)


def test_weights_that_lack_a_tensor_are_refused(model_copy):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(model_copy / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, model_copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 tensors are not in its weights, model\.layers\.1\.mlp\.up_proj"):
        load_model(model_copy)


@pytest.mark.heavy
def test_a_folder_that_is_no_model_is_refused_in_one_line(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_model(tmp_path)
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_an_unknown_architecture_is_refused(model_copy):
    check_architecture(model_copy)
    config = json.loads((model_copy / "config.json").read_text())
    (model_copy / "config.json").write_text(json.dumps(config | {"model_type": "marvin"}))
    with pytest.raises(ModelError, match="'marvin'"):
        check_architecture(model_copy)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(model_copy)


def test_fingerprint_survives_use_and_saving(tiny_model_folder, tmp_path):
    tokenizer = load_tokenizer(tiny_model_folder)
    tokenizer(["some text", "some longer text"], padding=True, truncation=True, max_length=8)
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer_fingerprint(tmp_path) == tokenizer_fingerprint(tiny_model_folder)


def test_fingerprint_tells_chat_templates_apart(model_copy):
    before = tokenizer_fingerprint(model_copy)
    (model_copy / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert tokenizer_fingerprint(model_copy) != before


def test_fingerprint_tells_vocabularies_apart(model_copy):
    before = tokenizer_fingerprint(model_copy)
    rules = json.loads((model_copy / "tokenizer.json").read_text())
    rules["model"]["merges"].pop()
    (model_copy / "tokenizer.json").write_text(json.dumps(rules))
    assert tokenizer_fingerprint(model_copy) != before


def test_chat_template_is_found_in_either_place(model_copy):
    template = (model_copy / "chat_template.jinja").read_text()
    before = tokenizer_fingerprint(model_copy)
    (model_copy / "chat_template.jinja").unlink()
    assert not has_chat_template(model_copy)
    config = json.loads((model_copy / "tokenizer_config.json").read_text())
    (model_copy / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))
    assert has_chat_template(model_copy)
    assert tokenizer_fingerprint(model_copy) == before


def test_a_model_without_generation_config_loads(model_copy):
    (model_copy / "generation_config.json").unlink()
    assert load_model(model_copy).num_parameters() > 0
    shutil.rmtree(model_copy)


def pages_of(file) -> dict[str, int]:
    """Bytes of a mapped file that this process has in memory, and of those that it has changed for itself."""
    found = {"Rss": 0, "Anonymous": 0}
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, value = line.partition(":")
        if "-" in name:
            inside = line.endswith(str(file))
        elif inside and name in found:
            found[name] += 1024 * int(value.split()[0])
    return found


def test_weights_are_pages_of_their_file_which_processes_share(model_copy):
    import torch

    file = model_copy / "model.safetensors"
    model = load_model(model_copy)
    with torch.inference_mode():
        model(torch.arange(100)[None])
    pages = pages_of(file)
    assert pages["Rss"] > file.stat().st_size / 2
    assert pages["Anonymous"] == 0
