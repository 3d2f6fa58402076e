"""What is refused about a model folder, each with one line that says so."""

import json
import shutil

import pytest

from heliostat.errors import ModelError
from heliostat.models.safety import check_model_folder, model_facts, tensors_in

WEIGHTS = "model.safetensors"


def refusal(folder) -> str:
    with pytest.raises(ModelError) as caught:
        check_model_folder(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def edit(file, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def shard(folder, names) -> None:
    """Turn the one weights file into the shards of an index."""
    (folder / WEIGHTS).rename(folder / names[0])
    for name in names[1:]:
        shutil.copy(folder / names[0], folder / name)
    tensors = list(tensors_in(folder / names[0]))
    index = {tensor: names[position % len(names)] for position, tensor in enumerate(tensors)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))


def test_a_sound_folder_passes(tiny_model_folder):
    check_model_folder(tiny_model_folder)


def test_facts_are_those_of_the_loaded_model(tiny_model_folder):
    from heliostat.models.loading import load_model

    facts = model_facts(tiny_model_folder)
    assert facts.num_parameters == load_model(tiny_model_folder).num_parameters()
    assert (facts.hidden_size, facts.num_layers, facts.max_position_embeddings) == (64, 2, 512)
    assert facts.architecture == "LlamaForCausalLM"


def test_shards_named_in_the_index_count_together(model_copy):
    before = model_facts(model_copy).num_parameters
    shard(model_copy, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])
    check_model_folder(model_copy)
    assert model_facts(model_copy).num_parameters == 2 * before


def test_missing_folder(tmp_path):
    assert "no such model folder" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", WEIGHTS])
def test_missing_file_is_named(model_copy, name):
    (model_copy / name).unlink()
    assert name in refusal(model_copy)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "weights.pth", "a.pkl", "b.ckpt", "flax_model.msgpack", "X.BIN"]
)
def test_pickles_are_refused_even_beside_safetensors(model_copy, name):
    (model_copy / name).write_bytes(b"\x80\x04")
    message = refusal(model_copy)
    assert name in message
    assert "convert the model to safetensors" in message


@pytest.mark.parametrize("name", ["modeling_custom.py", "kernel.so"])
def test_code_is_refused(model_copy, name):
    (model_copy / name).write_text("")
    assert name in refusal(model_copy)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("key", ["auto_map", "custom_pipelines"])
def test_keys_that_ask_for_code_are_refused(model_copy, name, key):
    edit(model_copy / name, **{key: {"AutoModel": "evil.Model"}})
    message = refusal(model_copy)
    assert key in message
    assert name in message


def test_config_that_is_not_json(model_copy):
    (model_copy / "config.json").write_text("{")
    assert "cannot be read as JSON" in refusal(model_copy)


def test_config_that_is_not_an_object(model_copy):
    (model_copy / "config.json").write_text("[]")
    assert "JSON object" in refusal(model_copy)


def test_config_of_something_else_has_no_facts(model_copy):
    (model_copy / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="not the config of a causal language model"):
        model_facts(model_copy)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_weights(model_copy, kept):
    content = (model_copy / WEIGHTS).read_bytes()
    (model_copy / WEIGHTS).write_bytes(content[:kept])
    assert "copy it again" in refusal(model_copy)


def test_weights_with_something_behind_them(model_copy):
    with (model_copy / WEIGHTS).open("ab") as stream:
        stream.write(b"more")
    assert "where its header says" in refusal(model_copy)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "data_offsets": [0, 4]}}',
    ],
)
def test_broken_header(model_copy, header):
    (model_copy / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert "broken safetensors header" in refusal(model_copy)


def test_missing_shard_is_named(model_copy):
    shard(model_copy, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"])
    (model_copy / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors" in refusal(model_copy)


def test_shard_outside_the_folder_is_refused(model_copy):
    shard(model_copy, ["one.safetensors"])
    (model_copy / "one.safetensors").rename(model_copy.parent / "one.safetensors")
    index = model_copy / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("one.safetensors", "../one.safetensors"))
    assert "../one.safetensors" in refusal(model_copy)


def test_adapter_folder_says_to_merge(model_copy):
    (model_copy / WEIGHTS).rename(model_copy / "adapter_model.safetensors")
    (model_copy / "adapter_config.json").write_text("{}")
    assert "merge it into its base model first" in refusal(model_copy)
