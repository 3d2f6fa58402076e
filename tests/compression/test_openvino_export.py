"""An exported folder is the same model: same perplexity, same greedy answer in the engine, same token ids."""

import pytest
from small_artifacts import conversations, publish_dataset

from heliostat.compression.config import OpenVINOConfig
from heliostat.compression.openvino_export import export_steps
from heliostat.models.loading import load_model, load_tokenizer, tokenizer_fingerprint
from heliostat.models.perplexity import Limits, measure_perplexity
from heliostat.storage import artifact_folder
from heliostat.text.chat import render_prompt
from heliostat.tokenized import TokenizedDataset

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def engine(exported_folder):
    """The engine that serves, with its cache and arithmetic in float32 so that ids can be compared."""
    import openvino_genai

    settings = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
    return openvino_genai.ContinuousBatchingPipeline(
        str(exported_folder), openvino_genai.SchedulerConfig(), "CPU", settings
    )


def prompts(folder) -> list[list[int]]:
    tokenizer = load_tokenizer(folder)
    return [render_prompt(messages[:1], tokenizer) for messages in conversations(3)]


def test_packed_transformers_and_unpacked_openvino_agree(workspace, tiny_model_folder, exported_folder):
    dataset = TokenizedDataset(artifact_folder(publish_dataset(workspace, tiny_model_folder)), "test")
    original = measure_perplexity(tiny_model_folder, dataset, Limits(micro_batch_size=2))
    exported = measure_perplexity(exported_folder, dataset, Limits())
    assert exported.perplexity == pytest.approx(original.perplexity, rel=1e-3)
    assert (exported.num_labels, exported.num_documents, exported.num_tokens) == (
        original.num_labels,
        original.num_documents,
        original.num_tokens,
    )


def test_the_engine_gives_the_same_greedy_tokens(engine, tiny_model_folder):
    import openvino
    import openvino_genai
    import torch

    options = openvino_genai.GenerationConfig()
    options.max_new_tokens, options.do_sample, options.ignore_eos = 16, False, True
    asked = prompts(tiny_model_folder)
    model = load_model(tiny_model_folder)
    answers = engine.generate([openvino.Tensor([ids]) for ids in asked], [options] * len(asked))
    for ids, answer in zip(asked, answers, strict=True):
        expected = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=16,
            min_new_tokens=16,
            do_sample=False,
            eos_token_id=None,
        )
        assert list(answer.m_generation_ids[0]) == expected[0, len(ids) :].tolist()


def test_the_engines_tokenizer_gives_the_same_ids(engine, tiny_model_folder):
    tokenizer = load_tokenizer(tiny_model_folder)
    text = "<|im_start|>user\nWhat is os.path.join(2024)?<|im_end|>\n"
    ids = engine.get_tokenizer().encode(text, add_special_tokens=False).input_ids.data[0].tolist()
    assert ids == tokenizer.encode(text, add_special_tokens=False)
    assert engine.get_tokenizer().decode(ids, skip_special_tokens=False) == text


def test_tokenizer_and_chat_template_travel_along(tiny_model_folder, exported_folder):
    assert tokenizer_fingerprint(exported_folder) == tokenizer_fingerprint(tiny_model_folder)
    assert (exported_folder / "config.json").is_file()


def test_a_model_with_tied_weights_exports_to_one_copy_of_them(tiny_model_folder, tmp_path):
    import json
    import shutil

    folder = shutil.copytree(tiny_model_folder, tmp_path / "tied")
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    load_model(folder).save_pretrained(folder)
    list(export_steps(folder, tmp_path / "out", OpenVINOConfig()))
    weights = (tmp_path / "out" / "openvino_model.bin").stat().st_size
    assert weights < 0.3 * (folder / "model.safetensors").stat().st_size
