"""vLLM as an engine: what a recipe may say, what its process is told, and why it does not start."""

import ast
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from heliostat.errors import ServingError
from heliostat.records import Artifact, FileEntry
from heliostat.serving.config import ServeConfig, VLLMEngineConfig
from heliostat.serving.engines import vllm_process
from heliostat.serving.engines.interface import SamplingParameters
from heliostat.serving.engines.selection import choose_engine, start_engine

GREEDY = SamplingParameters(max_tokens=12, temperature=0)


def parsed(**values) -> VLLMEngineConfig:
    config = ServeConfig.model_validate({"engine": {"kind": "vllm", "python": "vllm-python", **values}})
    assert isinstance(config.engine, VLLMEngineConfig)
    return config.engine


def artifact(kind: str, name: str) -> Artifact:
    """As much of one as choosing looks at."""
    files = (FileEntry(path=name, bytes=1, sha256="0"),)
    return Artifact.model_construct(kind=kind, uri="/models/small", files=files)


def test_a_recipe_names_the_interpreter():
    with pytest.raises(ValidationError, match="python"):
        ServeConfig.model_validate({"engine": {"kind": "vllm"}})
    assert parsed().python == "vllm-python"


def test_where_the_interpreter_lies_makes_no_other_deployment():
    assert parsed(python="/a/python").fingerprint() == parsed(python="/b/python").fingerprint()
    assert parsed(dtype="float32").fingerprint() != parsed().fingerprint()


def test_a_model_is_served_by_vllm_when_the_recipe_says_so_and_never_by_itself():
    model = artifact("model", "model.safetensors")
    assert choose_engine(parsed(), model) == parsed()
    assert choose_engine(ServeConfig().engine, model).kind == "transformers"


def test_what_is_exported_for_openvino_is_refused_with_the_engine_that_takes_it():
    with pytest.raises(
        ServingError, match=r"engine vllm cannot serve a quantized .* set engine.kind to openvino"
    ):
        choose_engine(parsed(), artifact("quantized", "openvino_model.xml"))


def test_the_processs_file_imports_only_the_standard_library_and_vllm():
    tree = ast.parse(Path(vllm_process.__file__).read_text())
    names = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
        )
    }
    assert names - sys.stdlib_module_names == {"vllm"}


def as_sent(**changes) -> dict:
    from dataclasses import asdict, replace

    return json.loads(json.dumps(asdict(replace(GREEDY, **changes))))


def test_parameters_reach_vllm_in_its_words():
    arguments = vllm_process.sampling_arguments(
        as_sent(stop_token_ids=(5,), logit_bias=((7, -100.0),), logprobs=3, seed=1, repetition_penalty=1.1)
    )
    assert arguments["stop_token_ids"] == [5]
    assert arguments["logit_bias"] == {7: -100.0}
    assert (arguments["logprobs"], arguments["seed"], arguments["repetition_penalty"]) == (3, 1, 1.1)
    assert arguments["ignore_eos"] is False
    assert "logit_bias" not in vllm_process.sampling_arguments(as_sent())
    assert vllm_process.grammar_arguments({"kind": "json_object", "schema": ""}) == {"json_object": True}
    assert vllm_process.grammar_arguments({"kind": "json_schema", "schema": "{}"}) == {"json": "{}"}


def test_only_the_likeliest_asked_for_are_given_though_vllm_adds_the_chosen_one():
    def found(rank, logprob):
        return SimpleNamespace(rank=rank, logprob=logprob)

    step = {9: found(40, -6.0), 2: found(2, -1.0), 1: found(1, -0.5)}
    assert vllm_process.logprob_rows([9], [step], 2) == [[-6.0, [[1, -0.5], [2, -1.0]]]]
    assert vllm_process.logprob_rows([9], [{9: found(40, -6.0)}], 0) == [[-6.0, []]]
    assert vllm_process.logprob_rows([9], None, None) == []


def test_what_the_config_leaves_open_is_left_to_vllm():
    plain = vllm_process.engine_arguments("/m", parsed().model_dump())
    assert "kv_cache_memory_bytes" not in plain
    assert "max_model_len" not in plain
    assert "enable_lora" not in plain
    told = vllm_process.engine_arguments(
        "/m", parsed(cache_size_gb=2, max_context_tokens=64, max_adapters=3, compile=False).model_dump()
    )
    assert told["kv_cache_memory_bytes"] == 2 << 30
    assert (told["max_model_len"], told["max_loras"], told["enforce_eager"]) == (64, 3, True)


@pytest.mark.parametrize(
    ("version", "good"),
    [("0.14.1", True), ("0.32.0+cpu", True), ("1.0", True), ("0.14.0", False), ("0.9.2", False)],
)
def test_versions_are_compared_as_numbers(version, good):
    reason = vllm_process.check_version(version)
    assert (reason is None) is good
    assert good or "is too old; install 0.14.1 or later" in str(reason)


def test_an_errors_last_line_says_why():
    report = (
        "1 validation error for X\n  Value error, too long [type=value]\n    For further information visit y"
    )
    assert vllm_process.last_line(ValueError(report)) == "Value error, too long [type=value]"
    assert vllm_process.last_line(KeyError()) == "KeyError"


async def refused_start(python: Path | str, folder: Path) -> str:
    (folder / "config.json").write_text('{"max_position_embeddings": 64}')
    with pytest.raises(ServingError) as caught:
        await start_engine(VLLMEngineConfig(python=str(python)), folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.anyio
async def test_an_interpreter_that_is_not_there_is_named(tmp_path):
    said = await refused_start(tmp_path / "nowhere", tmp_path)
    assert f"engine.python: {tmp_path}/nowhere is no program on this node" in said


@pytest.mark.anyio
async def test_an_interpreter_without_vllm_is_named(tmp_path):
    said = await refused_start(sys.executable, tmp_path)
    assert said.endswith(f"{sys.executable} has no module vllm; install vllm there")


@pytest.mark.anyio
async def test_a_vllm_that_is_too_old_is_refused(tmp_path):
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text('__version__ = "0.10.0"')
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    assert "vllm 0.10.0 is too old; install 0.14.1 or later" in await refused_start(python, tmp_path)
