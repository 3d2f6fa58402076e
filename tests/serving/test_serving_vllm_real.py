"""A real vLLM, where there is an environment with one: it says what transformers says."""

import asyncio
import json
import shutil
from contextlib import aclosing
from pathlib import Path

import pytest
from small_models import small_llama
from tests.bench.corpus import cache_folder
from tests.serving.asking import collect, collect_all

from heliostat.errors import ServingError
from heliostat.serving.config import VLLMEngineConfig
from heliostat.serving.engines.interface import Grammar, SamplingParameters
from heliostat.serving.engines.selection import start_engine

PEER_PYTHON = cache_folder() / "venv-vllm" / "bin" / "python"
GREEDY = SamplingParameters(max_tokens=12, temperature=0)
pytestmark = [
    pytest.mark.skipif(
        not PEER_PYTHON.is_file(),
        reason='no environment with vLLM; make bench-serving ARGS="--only engines --sides vllm" makes one',
    ),
    pytest.mark.anyio,
    pytest.mark.heavy,
    pytest.mark.slow,
    pytest.mark.timeout(900),  # it takes a minute to load
]


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


async def ids_of(vllm, prompt, parameters=GREEDY, adapter=None) -> list[int]:
    ids, _ = await collect(vllm, prompt, parameters, adapter)
    return ids


async def test_vllm_says_what_transformers_says_to_several_at_once(vllm, model, prompts):
    assert vllm.max_context_tokens == 512
    answers = await asyncio.gather(*(collect(vllm, prompt, GREEDY) for prompt in prompts))
    assert answers == [(greedy_ids(model, prompt), "length") for prompt in prompts]


async def test_a_stop_token_ends_with_stop_and_is_delivered(vllm, model, prompts):
    stop = greedy_ids(model, prompts[0])[3]
    parameters = SamplingParameters(max_tokens=12, temperature=0, stop_token_ids=(stop,))
    ids, reason = await collect(vllm, prompts[0], parameters)
    assert (ids[-1], reason) == (stop, "stop")


async def test_logprobs_are_those_of_the_models_logits(vllm, model, prompts):
    import torch

    asked = SamplingParameters(max_tokens=2, temperature=0, logprobs=3)
    first = (await collect_all(vllm, prompts[0], asked))[2][0]
    with torch.inference_mode():
        logits = model(torch.tensor([prompts[0]])).logits[0, -1].log_softmax(-1)
    assert first.logprob == pytest.approx(float(logits.max()), abs=1e-3)
    assert [token for token, _ in first.top] == logits.topk(3).indices.tolist()


async def test_biases_seeds_and_grammars_are_kept_to(vllm, model, tokenizer, prompts):
    likeliest = greedy_ids(model, prompts[0], 1)
    banned = SamplingParameters(max_tokens=1, temperature=0, logit_bias=((likeliest[0], -100.0),))
    assert await ids_of(vllm, prompts[0], banned) != likeliest
    seeded = SamplingParameters(max_tokens=12, seed=7)
    first, again = [await ids_of(vllm, prompts[0], seeded) for _ in range(2)]
    assert first == again
    grammar = Grammar("json_schema", '{"enum": ["light", "mirror"]}')
    shaped = SamplingParameters(max_tokens=60, seed=1, grammar=grammar)
    said = tokenizer.decode(await ids_of(vllm, prompts[0], shaped), skip_special_tokens=True)
    assert json.loads(said) in ("light", "mirror")


async def test_an_adapter_changes_its_requests_and_no_others(vllm, model, prompts, adapter_folder, tmp_path):
    await vllm.load_adapter("tuned", str(adapter_folder))
    tuned, plain = await asyncio.gather(ids_of(vllm, prompts[0], adapter="tuned"), ids_of(vllm, prompts[0]))
    assert plain == greedy_ids(model, prompts[0])
    assert tuned != plain
    with pytest.raises(ServingError, match=r"adapter none of .* cannot be loaded"):
        await vllm.load_adapter("none", str(tmp_path / "nowhere"))
    with pytest.raises(ServingError, match="adapter none is not loaded"):
        await ids_of(vllm, prompts[0], adapter="none")
    await vllm.unload_adapter("tuned")
    with pytest.raises(ServingError, match="adapter tuned is not loaded"):
        await ids_of(vllm, prompts[0], adapter="tuned")


async def test_a_reader_that_leaves_frees_its_slot_and_a_prompt_too_long_is_refused(vllm, prompts):
    endless = SamplingParameters(max_tokens=400, temperature=0)
    async with aclosing(vllm.generate(prompts[0], endless, "left")) as deltas:
        await anext(deltas)
    assert vllm.stats().num_requests == 0
    with pytest.raises(ServingError, match="refused the request"):
        await ids_of(vllm, list(range(5, 605)))
    await vllm.check_health()
    assert await ids_of(vllm, prompts[1])


async def test_a_folder_that_vllm_cannot_load_is_one_line(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "broken")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"architectures": ["NoSuchModel"]}))
    with pytest.raises(ServingError, match="vLLM cannot load this model") as caught:
        await start_engine(VLLMEngineConfig(python=str(PEER_PYTHON), cache_size_gb=1), folder)
    assert "\n" not in str(caught.value)
