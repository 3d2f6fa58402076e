"""vLLM as an engine: what a recipe may say, what its process is told, and a real one where there is one."""

import ast
import asyncio
import json
import shutil
import sys
from contextlib import aclosing, suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from pydantic import ValidationError
from small_models import small_llama
from tests.bench.corpus import cache_folder

from heliostat.errors import ServingError
from heliostat.records import Artifact, FileEntry
from heliostat.serving.config import ServeConfig, VLLMEngineConfig
from heliostat.serving.engines import vllm_process
from heliostat.serving.engines.child import ChildEngine
from heliostat.serving.engines.interface import Capabilities, Grammar, SamplingParameters, TokenLogprob
from heliostat.serving.engines.selection import choose_engine, start_engine

PEER_PYTHON = cache_folder() / "venv-vllm" / "bin" / "python"
GREEDY = SamplingParameters(max_tokens=12, temperature=0)
needs_vllm = pytest.mark.skipif(
    not PEER_PYTHON.is_file(),
    reason='no environment with vLLM; make bench-serving ARGS="--only engines --sides vllm" makes one',
)


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


CHILD = """
import json, os, socket, subprocess, sys
lines = socket.socket(fileno=int(sys.argv[1])).makefile("rw")
def say(**what): lines.write(json.dumps(what) + "\\n"); lines.flush()
say(ready=True, max_context_tokens=33)
for line in lines:
    asked = json.loads(line)
    if "load" in asked:
        say(reply=asked["reply"], error="no such folder" if asked["folder"] == "bad" else None)
    elif "add" in asked:
        what = asked["prompt_ids"][0]
        if what == 0: os._exit(3)
        if what == 1: lines.write("nonsense\\n"); lines.flush()
        if what == 2: say(refused=[asked["add"], "too long"])
        if what == 3:
            tokens = [[asked["add"], [7, 8], "length", [[-0.5, [[7, -0.5]]], [-1.5, []]]]]
            say(step=1, tokens=tokens, kv_cache_usage=0.25)
        if what == 5:
            other = subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL)
            say(step=1, tokens=[[asked["add"], [other.pid], None, []]], kv_cache_usage=0)
            os._exit(3)
"""


@pytest.fixture
async def child(tmp_path):
    """A process that speaks the engines' language, whatever it is asked."""
    (tmp_path / "child.py").write_text(CHILD)
    engine = ChildEngine(Capabilities(), 10, 60)
    await engine.connect([sys.executable, str(tmp_path / "child.py"), "folder", "{}"], {}, "no")
    yield engine
    await engine.close()


async def collect(engine, prompt, parameters=GREEDY, adapter=None):
    name = f"r{len(prompt)}-{id(parameters)}-{asyncio.current_task().get_name()}"
    return [delta async for delta in engine.generate(prompt, parameters, name, adapter)]


@pytest.mark.anyio
async def test_a_child_says_how_long_a_context_it_takes(child):
    assert child.max_context_tokens == 33


@pytest.mark.anyio
async def test_tokens_come_with_their_logprobs_and_the_engines_state(child):
    (delta,) = await collect(child, [3])
    assert delta.token_ids == (7, 8)
    assert delta.finish_reason == "length"
    assert delta.logprobs == (TokenLogprob(-0.5, ((7, -0.5),)), TokenLogprob(-1.5))
    assert (child.stats().kv_cache_usage, child.stats().num_generated_tokens) == (0.25, 2)


@pytest.mark.anyio
async def test_a_refusal_ends_one_request_and_no_more(child):
    with pytest.raises(ServingError, match="refused the request: too long"):
        await collect(child, [2])
    assert await collect(child, [3])


@pytest.mark.anyio
async def test_a_child_that_ends_takes_its_requests_along(child):
    waiting = asyncio.create_task(collect(child, [4]))
    await asyncio.sleep(0.05)
    with pytest.raises(ServingError, match="process ended with code 3"):
        await collect(child, [0])
    with pytest.raises(ServingError, match="process ended with code 3"):
        await waiting
    with pytest.raises(ServingError, match="process ended with code 3"):
        await child.load_adapter("late", "good")


@pytest.mark.anyio
async def test_what_a_child_started_ends_with_it(child):
    deltas = child.generate([5], GREEDY, "starting")
    (started,) = (await anext(deltas)).token_ids
    with pytest.raises(ServingError, match="process ended with code 3"):
        await anext(deltas)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(started).wait(10)
    assert not psutil.pid_exists(started)


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_nonsense_of_a_child_fails_its_requests_and_leaves_none_waiting(child):
    with pytest.raises(ServingError, match="not understood"):
        await asyncio.wait_for(collect(child, [1]), 10)
    with pytest.raises(ServingError, match="not understood"):
        await child.check_health()


@pytest.mark.anyio
async def test_an_adapter_that_does_not_load_is_an_error_and_the_engine_goes_on(child):
    await child.load_adapter("one", "good")
    with pytest.raises(ServingError, match="no such folder"):
        await child.load_adapter("two", "bad")
    await child.unload_adapter("one")
    assert await collect(child, [3])


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    """The tiny model with heads of 32, the fewest that vLLM's attention takes."""
    return small_llama(tmp_path_factory.mktemp("vllm-model"), num_attention_heads=2, num_key_value_heads=1)


@pytest.fixture(scope="module")
def adapter_folder(model_folder, tmp_path_factory) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    config = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    folder = tmp_path_factory.mktemp("vllm-adapter")
    get_peft_model(AutoModelForCausalLM.from_pretrained(model_folder), config).save_pretrained(folder)
    return folder


def real(test):
    """A test of a real vLLM, which takes a minute to load."""
    for mark in (
        needs_vllm,
        pytest.mark.anyio,
        pytest.mark.heavy,
        pytest.mark.slow,
        pytest.mark.timeout(900),
    ):
        test = mark(test)
    return test


@pytest.fixture(scope="module")
async def vllm(model_folder):
    config = VLLMEngineConfig(
        python=str(PEER_PYTHON),
        dtype="float32",
        cache_size_gb=1,
        compile=False,
        num_threads=1,
        max_adapters=2,
    )
    engine = await start_engine(config, model_folder)
    yield engine
    await engine.close()


@pytest.fixture(scope="module")
def tokenizer(model_folder):
    from heliostat.models.loading import load_tokenizer

    return load_tokenizer(model_folder)


@pytest.fixture(scope="module")
def prompts(tokenizer) -> list[list[int]]:
    return [tokenizer.encode(text) for text in ("The path is a file.", "What?", "Return a copy. " * 9)]


@pytest.fixture(scope="module")
def model(model_folder):
    from heliostat.models.loading import load_model

    return load_model(model_folder)


def greedy_ids(model, prompt: list[int], count: int = 12) -> list[int]:
    """What transformers' generate says."""
    import torch

    whole = model.generate(torch.tensor([prompt]), max_new_tokens=count, do_sample=False)
    return whole[0, len(prompt) :].tolist()


def ids_of(deltas) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


@real
async def test_vllm_says_what_transformers_says_to_several_at_once(vllm, model, prompts):
    assert vllm.max_context_tokens == 512
    answers = await asyncio.gather(*(collect(vllm, prompt) for prompt in prompts))
    assert [ids_of(deltas) for deltas in answers] == [greedy_ids(model, prompt) for prompt in prompts]
    assert {deltas[-1].finish_reason for deltas in answers} == {"length"}


@real
async def test_a_stop_token_ends_with_stop_and_is_delivered(vllm, model, prompts):
    stop = greedy_ids(model, prompts[0])[3]
    parameters = SamplingParameters(max_tokens=12, temperature=0, stop_token_ids=(stop,))
    deltas = await collect(vllm, prompts[0], parameters)
    assert (ids_of(deltas)[-1], deltas[-1].finish_reason) == (stop, "stop")


@real
async def test_logprobs_are_those_of_the_models_logits(vllm, model, prompts):
    import torch

    asked = SamplingParameters(max_tokens=2, temperature=0, logprobs=3)
    first = (await collect(vllm, prompts[0], asked))[0].logprobs[0]
    with torch.inference_mode():
        logits = model(torch.tensor([prompts[0]])).logits[0, -1].log_softmax(-1)
    assert first.logprob == pytest.approx(float(logits.max()), abs=1e-3)
    assert [token for token, _ in first.top] == logits.topk(3).indices.tolist()


@real
async def test_biases_seeds_and_grammars_are_kept_to(vllm, model, tokenizer, prompts):
    likeliest = greedy_ids(model, prompts[0], 1)
    banned = SamplingParameters(max_tokens=1, temperature=0, logit_bias=((likeliest[0], -100.0),))
    assert ids_of(await collect(vllm, prompts[0], banned)) != likeliest
    seeded = SamplingParameters(max_tokens=12, seed=7)
    first, again = [ids_of(await collect(vllm, prompts[0], seeded)) for _ in range(2)]
    assert first == again
    grammar = Grammar("json_schema", '{"enum": ["light", "mirror"]}')
    shaped = SamplingParameters(max_tokens=60, seed=1, grammar=grammar)
    said = tokenizer.decode(ids_of(await collect(vllm, prompts[0], shaped)), skip_special_tokens=True)
    assert json.loads(said) in ("light", "mirror")


@real
async def test_an_adapter_changes_its_requests_and_no_others(vllm, model, prompts, adapter_folder, tmp_path):
    await vllm.load_adapter("tuned", str(adapter_folder))
    tuned, plain = await asyncio.gather(
        collect(vllm, prompts[0], adapter="tuned"), collect(vllm, prompts[0], GREEDY)
    )
    assert ids_of(plain) == greedy_ids(model, prompts[0])
    assert ids_of(tuned) != ids_of(plain)
    with pytest.raises(ServingError, match=r"adapter none of .* cannot be loaded"):
        await vllm.load_adapter("none", str(tmp_path / "nowhere"))
    with pytest.raises(ServingError, match="adapter none is not loaded"):
        await collect(vllm, prompts[0], adapter="none")
    await vllm.unload_adapter("tuned")
    with pytest.raises(ServingError, match="adapter tuned is not loaded"):
        await collect(vllm, prompts[0], adapter="tuned")


@real
async def test_a_reader_that_leaves_frees_its_slot_and_a_prompt_too_long_is_refused(vllm, prompts):
    endless = SamplingParameters(max_tokens=400, temperature=0)
    async with aclosing(vllm.generate(prompts[0], endless, "left")) as deltas:
        await anext(deltas)
    assert vllm.stats().num_requests == 0
    with pytest.raises(ServingError, match="refused the request"):
        await collect(vllm, list(range(5, 605)))
    await vllm.check_health()
    assert ids_of(await collect(vllm, prompts[1]))


@real
async def test_a_folder_that_vllm_cannot_load_is_one_line(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "broken")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"architectures": ["NoSuchModel"]}))
    with pytest.raises(ServingError, match="vLLM cannot load this model") as caught:
        await start_engine(VLLMEngineConfig(python=str(PEER_PYTHON), cache_size_gb=1), folder)
    assert "\n" not in str(caught.value)
