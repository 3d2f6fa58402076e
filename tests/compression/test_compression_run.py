"""The compression stage on a real cluster: what it publishes, and what it refuses to publish."""

import json
import shutil

import pytest
from small_artifacts import pack, publish_dataset, publish_model

from heliostat.compression.config import GgufConfig, OpenVINOConfig
from heliostat.compression.run import compress_model
from heliostat.errors import DataError, ModelError
from heliostat.models.loading import load_model, tokenizer_fingerprint
from heliostat.models.perplexity import Limits, measure_perplexity
from heliostat.models.scoring import summed_loss, to_tensors
from heliostat.storage import artifact_folder
from heliostat.tokenized import IGNORED, TokenizedDataset, collate

pytestmark = pytest.mark.ray
CONFIG = OpenVINOConfig(max_tokens=600)
OUTLIER = 1e5


@pytest.fixture
def dataset(workspace, tiny_model_folder):
    return publish_dataset(workspace, tiny_model_folder)


@pytest.fixture(scope="module")
def coarse_folder(tiny_model_folder, tmp_path_factory):
    """The tiny model, trained to know the dataset by heart, with an outlier column in every layer that the
    norm in front of it undoes: the same function in float32, but in 8 bits an output channel nothing is left
    of the other columns."""
    import torch

    folder = shutil.copytree(tiny_model_folder, tmp_path_factory.mktemp("coarse") / "model")
    model = load_model(folder)
    batch = to_tensors(collate(pack(folder, count=24, max_sequence_length=128), padding_id=2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(30):
        loss = summed_loss(model, batch) / (batch["labels"] != IGNORED).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            layer.input_layernorm.weight[0] /= OUTLIER
            layer.post_attention_layernorm.weight[0] /= OUTLIER
            for linear in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
                linear.weight[:, 0] *= OUTLIER
    model.save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_int8_is_published_with_what_was_measured(ray_cluster, workspace, dataset, tiny_model_folder):
    model = publish_model(workspace, tiny_model_folder)
    small = compress_model(CONFIG, model, dataset, workspace)
    facts = small.facts
    assert small.kind == "quantized"
    assert (facts["kind"], facts["scheme"]) == ("openvino", "int8")
    assert min(facts["tokens_per_second_before"], facts["tokens_per_second_after"]) > 0
    assert facts["bytes_before"] == (tiny_model_folder / "model.safetensors").stat().st_size
    assert facts["bytes_after"] == (artifact_folder(small) / "openvino_model.bin").stat().st_size
    assert facts["bytes_after"] <= 0.3 * facts["bytes_before"]
    assert facts["perplexity_after"] <= 1.02 * facts["perplexity_before"]
    assert facts["tokenizer"] == model.facts["tokenizer"] == tokenizer_fingerprint(artifact_folder(small))
    split = TokenizedDataset(artifact_folder(dataset), "test")
    for folder, key in (
        (tiny_model_folder, "perplexity_before"),
        (artifact_folder(small), "perplexity_after"),
    ):
        alone = measure_perplexity(folder, split, Limits(max_tokens=600))
        assert facts[key] == pytest.approx(alone.perplexity, rel=1e-5)
    assert compress_model(CONFIG, model, dataset, workspace) == small


@pytest.mark.slow
def test_int4_is_calibrated_and_smaller_than_int8(ray_cluster, workspace, dataset, tiny_model_folder):
    model = publish_model(workspace, tiny_model_folder)
    config = OpenVINOConfig(scheme="int4", group_size=16, max_tokens=600, calibration={"num_documents": 8})
    facts = compress_model(config, model, dataset, workspace).facts
    eight = compress_model(CONFIG, model, dataset, workspace).facts
    assert facts["scheme"] == "int4"
    assert facts["bytes_after"] < 0.92 * eight["bytes_after"]
    assert facts["perplexity_after"] <= 1.08 * facts["perplexity_before"]


@pytest.mark.slow
def test_a_gguf_file_is_scored_as_it_was_written(ray_cluster, workspace, dataset, tiny_model_folder):
    model = publish_model(workspace, tiny_model_folder)
    exported = compress_model(GgufConfig(scheme="q8_0", max_tokens=600), model, dataset, workspace)
    facts = exported.facts
    assert (exported.kind, facts["scheme"], facts["tokens_per_second_after"]) == ("export", "gguf-q8_0", None)
    assert facts["bytes_after"] < 0.35 * facts["bytes_before"]
    assert facts["perplexity_after"] == pytest.approx(facts["perplexity_before"], rel=0.01)
    assert facts["perplexity_after"] != facts["perplexity_before"]


def test_what_gguf_cannot_take_is_refused_before_any_work(workspace, dataset, tiny_model_folder, tmp_path):
    folder = shutil.copytree(tiny_model_folder, tmp_path / "yarn")
    config = json.loads((folder / "config.json").read_text()) | {"rope_parameters": {"rope_type": "yarn"}}
    (folder / "config.json").write_text(json.dumps(config))
    model = publish_model(workspace, folder, "yarn")
    with pytest.raises(ModelError, match="rope_type 'yarn' cannot be written as GGUF"):
        compress_model(GgufConfig(), model, dataset, workspace)
    assert workspace.storage.list("runs") == []


def test_a_model_that_loses_too_much_is_not_published(ray_cluster, workspace, dataset, coarse_folder):
    model = publish_model(workspace, coarse_folder)
    with pytest.raises(ModelError, match=r"refused: perplexity .* allowed is \+2\.00%") as caught:
        compress_model(CONFIG, model, dataset, workspace)
    assert "\n" not in str(caught.value)
    assert not [
        name for name in workspace.storage.list("models") if name.startswith(("compressed", ".staging"))
    ]


def test_an_architecture_that_cannot_be_exported_is_one_line(ray_cluster, workspace, dataset, tmp_path):
    from transformers import MistralConfig, MistralForCausalLM

    folder = artifact_folder(dataset) / "tokenizer"
    shutil.copytree(folder, tmp_path / "mistral")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = MistralConfig(vocab_size=600, num_key_value_heads=1, sliding_window=64, **sizes)
    MistralForCausalLM(config).save_pretrained(tmp_path / "mistral")
    model = publish_model(workspace, tmp_path / "mistral", "mistral")
    with pytest.raises(ModelError, match="architecture 'mistral' has sliding-window attention") as caught:
        compress_model(CONFIG, model, dataset, workspace)
    assert "\n" not in str(caught.value)


def test_another_tokenizer_is_refused_before_any_work(workspace, dataset, tiny_model_folder):
    model = publish_model(workspace, tiny_model_folder)
    stranger = model.model_copy(update={"facts": {"tokenizer": "0" * 64}})
    with pytest.raises(DataError, match="another tokenizer"):
        compress_model(CONFIG, stranger, dataset, workspace)
    assert workspace.storage.list("runs") == []
