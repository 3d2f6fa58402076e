"""LoRA adapters on demand: each request gets what its adapter gives alone, whoever asks beside it."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from tests.serving.asking import collect
from tests.serving.in_process import CONFIGS

from heliostat.errors import ServingError
from heliostat.serving.engines.interface import SamplingParameters
from heliostat.serving.engines.selection import start_engine

pytestmark = [pytest.mark.anyio, pytest.mark.heavy]
GREEDY = SamplingParameters(max_tokens=16, temperature=0)


@pytest.fixture(scope="module")
def prompts(tiny_tokenizer) -> list[list[int]]:
    """The first is longer than a block of the cache, so that a prefix could be taken from another's."""
    return [tiny_tokenizer.encode("The path is a file. " * 20), tiny_tokenizer.encode("What?")]


@pytest.fixture(scope="module")
def reference(adapters, prompts, tiny_model_folder) -> dict[str | None, list[list[int]]]:
    """What transformers with PEFT answers."""
    import torch

    from heliostat.models.adapters import load_with_adapter
    from heliostat.models.loading import load_model

    def answers(model) -> list[list[int]]:
        wholes = [
            model.generate(input_ids=torch.tensor([ids]), max_new_tokens=16, do_sample=False)
            for ids in prompts
        ]
        return [whole[0, len(ids) :].tolist() for whole, ids in zip(wholes, prompts, strict=True)]

    found: dict[str | None, list[list[int]]] = {None: answers(load_model(tiny_model_folder))}
    for name, folder in adapters.items():
        found[name] = answers(load_with_adapter(tiny_model_folder, folder))
    assert len({json.dumps(each) for each in found.values()}) == 4
    return found


@pytest.fixture(scope="module", params=["transformers", "openvino"])
async def dressed(request, folders, adapters):
    """An engine of its own with all adapters loaded."""
    engine = await start_engine(CONFIGS[request.param], folders[request.param])
    for name, folder in adapters.items():
        await engine.load_adapter(name, str(folder))
    yield engine
    await engine.close()


async def test_each_adapter_answers_as_transformers_with_peft(dressed, prompts, reference):
    for adapter in ("a", None, "b", "a", "c", None):
        for prompt, expected in zip(prompts, reference[adapter], strict=True):
            assert (await collect(dressed, prompt, GREEDY, adapter))[0] == expected


async def test_requests_of_several_adapters_at_once_each_get_their_own(dressed, prompts, reference):
    asked = [(adapter, place) for _ in range(3) for adapter in ("a", "b", None, "c") for place in (0, 1)]

    async def ask(adapter, place, delay):
        await asyncio.sleep(delay)
        ids, _ = await collect(dressed, prompts[place], GREEDY, adapter)
        return ids == reference[adapter][place]

    right = await asyncio.gather(
        *(ask(adapter, place, 0.01 * number) for number, (adapter, place) in enumerate(asked))
    )
    assert all(right)


async def test_a_waiting_request_can_be_aborted_at_once(dressed, prompts):
    long = SamplingParameters(max_tokens=1000, temperature=0, ignore_eos=True)
    before = dressed.stats().num_generated_tokens
    running = asyncio.create_task(collect(dressed, prompts[1], long, "a"))
    while dressed.stats().num_generated_tokens == before:
        await asyncio.sleep(0.001)
    waiting = dressed.generate(prompts[1], GREEDY, "waits", "b")
    first = asyncio.ensure_future(anext(waiting))
    await asyncio.sleep(0)
    assert dressed.stats().num_waiting == 1
    await dressed.abort("waits")
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(first, 5)
    assert not running.done()
    assert dressed.stats().num_requests == 1
    await running
    assert dressed.stats().num_requests == 0


async def test_an_adapter_that_is_not_loaded_is_refused(dressed, prompts):
    with pytest.raises(ServingError, match="not loaded"):
        await collect(dressed, prompts[0], GREEDY, "nobody")


async def test_an_adapter_can_be_replaced_and_unloaded_while_others_answer(
    dressed, prompts, reference, adapters
):
    await dressed.load_adapter("d.1", str(adapters["a"]))
    going = asyncio.create_task(collect(dressed, prompts[0], GREEDY, "d.1"))
    await asyncio.sleep(0)
    await dressed.load_adapter("d.1", str(adapters["b"]))
    assert (await going)[0] == reference["a"][0]
    assert (await collect(dressed, prompts[0], GREEDY, "d.1"))[0] == reference["b"][0]
    leaving = asyncio.create_task(collect(dressed, prompts[0], GREEDY, "d.1"))
    await asyncio.sleep(0)
    await dressed.unload_adapter("d.1")
    await dressed.unload_adapter("never there")
    assert (await leaving)[0] == reference["b"][0]
    with pytest.raises(ServingError, match="not loaded"):
        await collect(dressed, prompts[0], GREEDY, "d.1")
    assert (await collect(dressed, prompts[0], GREEDY))[0] == reference[None][0]


async def test_a_folder_that_is_no_fitting_adapter_is_refused_and_harms_nobody(
    dressed, prompts, reference, adapters, tmp_path
):
    async def refused(name: str, reason: str) -> None:
        with pytest.raises(ServingError, match=reason) as caught:
            await dressed.load_adapter("bad", str(tmp_path / name))
        assert "\n" not in str(caught.value)

    def copied(name: str, **changes) -> Path:
        folder = shutil.copytree(adapters["a"], tmp_path / name)
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
        return folder

    await refused("missing", "no readable LoRA adapter")
    copied("dora", use_dora=True)
    await refused("dora", "use_dora")
    copied("prefix", peft_type="PREFIX_TUNING")
    await refused("prefix", "not plain LoRA")
    (copied("pickle") / "adapter_model.safetensors").rename(tmp_path / "pickle" / "adapter_model.bin")
    await refused("pickle", "no readable LoRA adapter")
    (copied("cut") / "adapter_model.safetensors").write_bytes(b"\xff" * 40)
    await refused("cut", "no readable LoRA adapter")
    other = copied("other") / "adapter_model.safetensors"
    from safetensors.numpy import load_file, save_file

    save_file(
        {name.replace("layers.1", "layers.7"): value for name, value in load_file(other).items()}, other
    )
    await refused("other", "no such layer")
    assert (await collect(dressed, prompts[0], GREEDY, "a"))[0] == reference["a"][0]
    assert (await collect(dressed, prompts[0], GREEDY))[0] == reference[None][0]


async def test_an_adapter_loaded_while_others_answer_disturbs_none(folders, adapters, prompts, reference):
    engine = await start_engine(CONFIGS["openvino"], folders["openvino"])
    try:
        going = [asyncio.create_task(collect(engine, prompts[0], GREEDY)) for _ in range(3)]
        await asyncio.sleep(0.02)
        await engine.load_adapter("b", str(adapters["b"]))
        await engine.load_adapter("a", str(adapters["a"]))  # changes more layers than b
        later = [asyncio.create_task(collect(engine, prompts[0], GREEDY, name)) for name in ("a", None, "b")]
        assert [(await each)[0] for each in going] == [reference[None][0]] * 3
        assert [(await each)[0] for each in later] == [reference[name][0] for name in ("a", None, "b")]
    finally:
        await engine.close()


@pytest.mark.parametrize("kind", ["transformers", "openvino"])
async def test_the_only_adapter_can_go_and_others_come(kind, folders, adapters, prompts, reference):
    engine = await start_engine(CONFIGS[kind], folders[kind])
    try:
        for name in ("a", "b", "a"):
            await engine.load_adapter(name, str(adapters[name]))
            assert (await collect(engine, prompts[0], GREEDY, name))[0] == reference[name][0]
            await engine.unload_adapter(name)
            assert (await collect(engine, prompts[0], GREEDY))[0] == reference[None][0]
            await engine.unload_adapter(name)
    finally:
        await engine.close()
