"""Folders for vLLM: an environment that is not there is one line; one that is makes what was asked for."""

import json
import sys

import pytest
from small_artifacts import pack, write_dataset
from tests.bench.peers import LLM_COMPRESSOR, python_of

from heliostat.compression.calibration import calibration_documents
from heliostat.compression.compressed_tensors_export import STEPS, check_environment, export_and_score
from heliostat.compression.config import CompressedTensorsConfig
from heliostat.errors import ConfigError
from heliostat.models.perplexity import Limits, measure_perplexity
from heliostat.tokenized import TokenizedDataset


@pytest.mark.parametrize(
    ("python", "complaint"),
    [("/nowhere/python", "/nowhere/python: no such interpreter"), (sys.executable, "has no llmcompressor")],
)
def test_a_missing_environment_is_one_line_that_says_how_to_make_it(python, complaint):
    with pytest.raises(ConfigError, match=complaint) as caught:
        check_environment(CompressedTensorsConfig(python=python))
    assert "pip install llmcompressor" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fewer_bits_may_lose_more_unless_told():
    limits = [
        CompressedTensorsConfig(python="p", scheme=scheme).max_loss for scheme in ("fp8", "int8", "int4")
    ]
    assert limits == [0.02, 0.05, 0.08]
    assert CompressedTensorsConfig(python="p", scheme="int4", max_loss=0.5).max_loss == 0.5


@pytest.mark.slow
@pytest.mark.lengthy
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("scheme", "bits"), [("int8", 8), ("int4", 4), ("fp8", 8)])
def test_llm_compressor_makes_and_scores_the_folder(tmp_path, tiny_model_folder, scheme, bits):
    write_dataset(
        tmp_path / "data",
        tiny_model_folder,
        dict.fromkeys(("train", "test"), pack(tiny_model_folder, 24, 128)),
    )
    dataset = TokenizedDataset(tmp_path / "data", "test")
    python = str(python_of(LLM_COMPRESSOR))
    config = CompressedTensorsConfig(scheme=scheme, python=python, calibration={"num_documents": 8})
    check_environment(config)
    (tmp_path / "out").mkdir()
    documents = calibration_documents(dataset, config.calibration)
    arguments = (tiny_model_folder, tmp_path / "out", config, documents, dataset, Limits(max_tokens=600))
    said = list(export_and_score(*arguments))
    assert said[:3] == list(STEPS)
    before = measure_perplexity(tiny_model_folder, dataset, Limits(max_tokens=600)).perplexity
    assert said[-1].perplexity != before
    assert said[-1].perplexity == pytest.approx(before, rel=0.02)
    rules = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert rules["quant_method"] == "compressed-tensors"
    assert rules["config_groups"]["group_0"]["weights"]["num_bits"] == bits
    assert (tmp_path / "out" / "chat_template.jinja").is_file()
