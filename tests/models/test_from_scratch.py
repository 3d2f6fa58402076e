"""Models built from their sizes: the same config gives the same model, whose size was known before."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from heliostat.errors import DataError, ModelError
from heliostat.models.bpe_training import CHAT_TEMPLATE, PADDING, TURN_ENDS, learn_tokenizer
from heliostat.models.fast_tokenizer import FastEncoder
from heliostat.models.from_scratch import _transformers_config, config_json, describe, make_model
from heliostat.models.loading import load_model, load_tokenizer, tokenizer_fingerprint
from heliostat.models.scratch_config import DeepseekMoeModel, LlamaModel, TrainedTokenizer
from heliostat.recipe_parts import count_parameters
from heliostat.storage import artifact_folder, publish, staging
from heliostat.text.chat import render_conversation
from heliostat.training.model_shape import ModelShape

pytestmark = pytest.mark.heavy

TINY = {"hidden_size": 32, "num_layers": 3, "num_heads": 2, "tokenizer": {"kind": "train", "vocab_size": 400}}
MOE = DeepseekMoeModel(
    **TINY, kv_lora_rank=8, head_dim=8, rope_head_dim=4, value_head_dim=16, num_experts=8, num_groups=2,
    expert_hidden_size=16, dense_hidden_size=48, q_lora_rank=12,
)  # fmt: skip
LLAMA = LlamaModel(**TINY, num_key_value_heads=1, feed_forward_size=48)
MESSAGES = [{"role": "user", "content": "Where is the mirror?"}, {"role": "assistant", "content": "Up."}]


def documents(workspace, texts=("The mirrors follow the sun. " * 20, "A heliostat has 12 mirrors. " * 20)):
    rows = [{"text": text, "messages": None, "rejected": None} for text in texts]
    rows += [{"text": None, "messages": MESSAGES, "rejected": None}] if texts else []
    message = pa.struct([("role", pa.string()), ("content", pa.large_string())])
    schema = pa.schema(
        [("text", pa.large_string()), ("messages", pa.list_(message)), ("rejected", pa.list_(message))]
    )
    with staging(workspace.storage, "data/processed/documents") as publication:
        (publication.folder / "train").mkdir()
        table = pa.Table.from_pylist(rows, schema=schema)
        pq.write_table(table, publication.folder / "train" / "part-00000.parquet")
        return publish(publication, "dataset", "key", {})


@pytest.mark.parametrize("config", [MOE, LLAMA], ids=lambda config: config.kind)
def test_a_built_model_is_found_again_loads_and_is_as_big_as_described(config, workspace):
    dataset = documents(workspace)
    model = make_model(config, dataset, workspace)
    assert make_model(config, dataset, workspace) == model
    again = make_model(config, dataset, workspace, force=True)
    assert again.content == model.content
    assert make_model(config.model_copy(update={"seed": 1}), dataset, workspace).content != model.content
    folder = artifact_folder(model)
    described = describe(config, model.facts["vocab_size"])
    assert model.facts["num_parameters"] == described.num_parameters
    assert model.facts["active_parameters"] == described.active_parameters
    assert model.facts["tokenizer"] == tokenizer_fingerprint(folder)
    assert model.facts["chat_template"] is True
    assert model.parents == (dataset.id,)
    loaded = load_model(folder)
    assert loaded.config.hidden_size == 32
    assert loaded(torch.tensor([[5, 6, 7]])).logits.shape == (1, 3, model.facts["vocab_size"])


def test_active_parameters_leave_out_the_experts_a_token_does_not_take(workspace):
    described = describe(MOE, 400)
    one_expert = 3 * 32 * 16
    assert described.num_parameters - described.active_parameters == 2 * (8 - 2) * one_expert
    dense = describe(LLAMA, 400)
    assert dense.num_parameters == dense.active_parameters


def test_presets_are_described_without_the_memory_for_them():
    base, large = (describe(DeepseekMoeModel(preset=size), 128_000) for size in ("base", "large"))
    assert 25e9 < base.num_parameters < 40e9
    assert 3e9 < base.active_parameters < 8e9
    assert 350e9 < large.num_parameters < 600e9
    assert 20e9 < large.active_parameters < 60e9


def test_weights_that_do_not_fit_into_this_machine_are_refused_before_they_are_made(workspace):
    config = DeepseekMoeModel(preset="large", tokenizer=TrainedTokenizer(vocab_size=400))
    with pytest.raises(ModelError, match=r"weights take [\d,]+ GB, and this machine has") as refused:
        make_model(config, documents(workspace), workspace)
    assert len(str(refused.value).splitlines()) == 1


def test_a_learned_tokenizer_is_the_same_each_time_and_renders_conversations(workspace, tmp_path):
    dataset = artifact_folder(documents(workspace))
    for name in ("one", "two"):
        learn_tokenizer(TrainedTokenizer(vocab_size=400, min_frequency=1), dataset, tmp_path / name)
    assert tokenizer_fingerprint(tmp_path / "one") == tokenizer_fingerprint(tmp_path / "two")
    tokenizer = load_tokenizer(tmp_path / "one")
    assert tokenizer.decode(tokenizer.encode("光 12, mirrors")) == "光 12, mirrors"
    assert (tokenizer.eos_token, tokenizer.pad_token) == (TURN_ENDS, PADDING)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    rendered = render_conversation(MESSAGES, tokenizer)
    learned = [i for i, mask in zip(rendered.input_ids, rendered.loss_mask, strict=True) if mask]
    assert tokenizer.decode(learned) == f"Up.{TURN_ENDS}"
    assert FastEncoder.of(tokenizer).path == "tiktoken"


def test_the_tokenizer_of_a_model_can_be_taken(tiny_model_folder, workspace):
    taken = {"tokenizer": {"kind": "model", "model": str(tiny_model_folder)}}
    model = make_model(LlamaModel(**TINY | taken), None, workspace)
    assert model.facts["tokenizer"] == tokenizer_fingerprint(tiny_model_folder)
    values = json.loads((artifact_folder(model) / "config.json").read_text())
    assert values["vocab_size"] == len(load_tokenizer(tiny_model_folder))
    assert values["pad_token_id"] is None  # it ends texts, too


def test_documents_that_are_none_teach_no_tokenizer(workspace):
    with pytest.raises(DataError, match="no documents to learn a tokenizer from"):
        make_model(MOE, documents(workspace, ()), workspace)


@pytest.mark.parametrize("kind", ["llama", "deepseek_moe"])
@pytest.mark.parametrize("preset", ["base", "large"])
def test_the_sizes_told_without_transformers_are_those_of_the_model_that_is_built(kind, preset):
    asked = {"kind": kind, "name": "m", "preset": preset, "tokenizer": {"kind": "train", "vocab_size": 512}}
    model = (LlamaModel if kind == "llama" else DeepseekMoeModel).model_validate(asked)
    built = ModelShape.from_config_json(_transformers_config(model, 512).to_dict())
    assert ModelShape.from_config_json(config_json(model, 512)) == built


@pytest.mark.parametrize("model", [LLAMA, MOE], ids=["llama", "mixture"])
def test_the_parameters_counted_from_sizes_are_those_of_the_model_that_is_built(model):
    assert count_parameters(model, 400) == describe(model, 400)
