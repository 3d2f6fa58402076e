"""What every engine must do, on each of them."""

import asyncio
import json
import os
import shutil
import signal
from contextlib import aclosing

import pytest
from tests.serving.in_process import CONFIGS, LONG

from heliostat.errors import ServingError
from heliostat.serving.engines.interface import SamplingParameters, TokenDelta
from heliostat.serving.engines.requests import Advance, RequestTable
from heliostat.serving.engines.selection import start_engine

pytestmark = [pytest.mark.anyio, pytest.mark.heavy]
GREEDY = SamplingParameters(max_tokens=24, temperature=0)
ENDLESS = SamplingParameters(max_tokens=LONG, temperature=0, ignore_eos=True)
TEXTS = (
    "The path is a file.",
    "Return a copy of the string with the first letter in upper case. " * 3,
    "What?",
    "日本語 🎉",
)
numbers = iter(range(1_000_000))


@pytest.fixture(scope="module")
def prompts(tiny_tokenizer) -> list[list[int]]:
    return [tiny_tokenizer.encode(text) for text in TEXTS]


@pytest.fixture(scope="module")
def greedy_reference(prompts, folders) -> list[list[int]]:
    import torch

    from heliostat.models.loading import load_model

    model = load_model(folders["transformers"])
    wholes = [model.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False) for ids in prompts]
    return [whole[0, len(ids) :].tolist() for whole, ids in zip(wholes, prompts, strict=True)]


async def collect(engine, prompt, parameters=GREEDY) -> tuple[list[int], str | None]:
    ids: list[int] = []
    reason = None
    async for delta in engine.generate(prompt, parameters, f"request-{next(numbers)}"):
        ids += delta.token_ids
        reason = delta.finish_reason
    return ids, reason


async def settled(engine) -> int:
    """The number of steps once it no longer grows."""
    while True:
        before = engine.stats().num_steps
        await asyncio.sleep(0.2)
        if engine.stats().num_steps == before:
            return before


async def test_greedy_ids_are_those_of_transformers_generate(engine, prompts, greedy_reference):
    for prompt, expected in zip(prompts, greedy_reference, strict=True):
        ids, _ = await collect(engine, prompt)
        assert ids == expected


async def test_requests_side_by_side_get_what_they_get_alone(engine, prompts):
    alone = [await collect(engine, prompt) for prompt in prompts]
    together = await asyncio.gather(*(collect(engine, prompt) for prompt in prompts))
    assert together == alone


async def test_max_tokens_ends_with_length(engine, prompts):
    ids, reason = await collect(engine, prompts[0], SamplingParameters(max_tokens=3, temperature=0))
    assert (len(ids), reason) == (3, "length")


async def test_a_stop_token_ends_with_stop_and_is_delivered_last(engine, prompts):
    ids, _ = await collect(engine, prompts[0])
    stop = ids[5]
    short = ids[: ids.index(stop) + 1]
    parameters = SamplingParameters(max_tokens=24, temperature=0, stop_token_ids=(stop,))
    assert await collect(engine, prompts[0], parameters) == (short, "stop")


@pytest.mark.parametrize("kind", ["transformers", "openvino"])
async def test_the_models_own_end_token_ends_with_stop(kind, folders, prompts, tmp_path):
    folder = shutil.copytree(folders[kind], tmp_path / "model")
    engine = await start_engine(CONFIGS[kind], folder)
    ids, _ = await collect(engine, prompts[0])
    await engine.close()
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [2, ids[3]]}))
    engine = await start_engine(CONFIGS[kind], folder)
    try:
        assert await collect(engine, prompts[0]) == (ids[: ids.index(ids[3]) + 1], "stop")
    finally:
        await engine.close()


async def test_a_seed_gives_the_same_sample_again_also_beside_others(engine, prompts):
    sampled = SamplingParameters(max_tokens=24, temperature=1.0, top_p=0.9, seed=7)
    first = await collect(engine, prompts[0], sampled)
    again, *_ = await asyncio.gather(
        collect(engine, prompts[0], sampled),
        collect(engine, prompts[1], SamplingParameters(max_tokens=24, seed=8)),
        collect(engine, prompts[2]),
    )
    other = await collect(engine, prompts[0], SamplingParameters(max_tokens=24, top_p=0.9, seed=8))
    assert first == again
    assert other != first


async def test_without_a_seed_samples_differ(engine, prompts):
    hot = SamplingParameters(max_tokens=24, temperature=1.5)
    assert await collect(engine, prompts[0], hot) != await collect(engine, prompts[0], hot)


async def test_top_k_one_is_greedy(engine, prompts):
    greedy = await collect(engine, prompts[0])
    parameters = SamplingParameters(max_tokens=24, temperature=1.0, top_k=1)
    assert await collect(engine, prompts[0], parameters) == greedy


async def test_closing_a_stream_frees_its_slot(engine, prompts):
    async with aclosing(engine.generate(prompts[0], ENDLESS, "left")) as deltas:
        await anext(deltas)
        assert engine.stats().num_requests == 1
    assert engine.stats().num_requests == 0
    before = engine.stats().num_steps
    assert await settled(engine) - before < 100
    assert len((await collect(engine, prompts[1]))[0]) == 24


async def test_abort_ends_the_readers_stream(engine, prompts):
    async def read() -> list[TokenDelta]:
        return [delta async for delta in engine.generate(prompts[0], ENDLESS, "aborted")]

    reading = asyncio.create_task(read())
    while engine.stats().num_requests == 0:
        assert not reading.done()
        await asyncio.sleep(0.01)
    await engine.abort("aborted")
    deltas = await reading
    assert all(delta.finish_reason is None for delta in deltas)


async def turns_a_token(engine, prompt, max_tokens: int) -> float:
    """How often the event loop gets round for each token of an answer."""
    parameters = SamplingParameters(max_tokens=max_tokens, ignore_eos=True)
    working = asyncio.create_task(collect(engine, prompt, parameters))
    turns = 0
    while not working.done():
        await asyncio.sleep(0)
        turns += 1
    return turns / max_tokens


async def test_the_event_loop_stays_free_while_an_engine_works(engine, prompts):
    for max_tokens in (40, 80, 160, 320, 640):  # a busy machine may give this process no turn in a short one
        turns = await turns_a_token(engine, prompts[1], max_tokens)
        if turns > 20:
            break
    assert turns > 20  # an engine that computes on the loop leaves it a few
    await engine.check_health()


async def test_a_request_id_in_use_is_refused(engine, prompts):
    async with aclosing(engine.generate(prompts[0], GREEDY, "twice")) as deltas:
        first = asyncio.ensure_future(anext(deltas))
        await asyncio.sleep(0)
        with pytest.raises(ServingError, match="already going on"):
            await anext(engine.generate(prompts[0], GREEDY, "twice"))
        await first


async def test_a_dead_engine_process_fails_its_requests_and_its_health(folders, prompts):
    engine = await start_engine(CONFIGS["openvino"], folders["openvino"])
    deltas = engine.generate(prompts[0], ENDLESS, "lost")
    await anext(deltas)
    os.kill(engine.process_id, signal.SIGKILL)
    with pytest.raises(ServingError, match="process ended with code -9"):
        async for _ in deltas:
            pass
    with pytest.raises(ServingError, match="process ended"):
        await engine.check_health()
    await engine.close()


async def test_a_folder_that_openvino_cannot_read_is_one_line(folders, tmp_path):
    folder = shutil.copytree(folders["openvino"], tmp_path / "broken")
    (folder / "openvino_model.xml").write_text("<net>")
    with pytest.raises(ServingError, match="OpenVINO cannot load this model") as caught:
        await start_engine(CONFIGS["openvino"], folder)
    assert "\n" not in str(caught.value)


async def test_a_folder_without_a_context_limit_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ServingError, match="max_position_embeddings"):
        await start_engine(CONFIGS["transformers"], tmp_path)


async def test_a_hung_engine_is_unhealthy_and_an_idle_or_busy_one_is_not():
    table = RequestTable(stall_timeout_seconds=0.05)
    await asyncio.sleep(0.1)
    table.check_health()  # idle
    table.open("a")
    for step in range(5):
        await asyncio.sleep(0.02)
        table.step(step, [])
        table.check_health()  # busy
    await asyncio.sleep(0.1)
    with pytest.raises(ServingError, match="no step"):
        table.check_health()


async def test_a_slow_reader_gets_what_piled_up_in_one_delta():
    table = RequestTable(stall_timeout_seconds=60)
    stream = table.open("a")
    table.step(1, [Advance("a", [1], None)])
    table.step(2, [Advance("a", [2, 3], None)])
    deltas = stream.deltas()
    assert await anext(deltas) == TokenDelta((1, 2, 3))
    table.step(3, [Advance("a", [4], None)])
    table.step(4, [Advance("a", [], "length")])
    assert [delta async for delta in deltas] == [TokenDelta((4,), "length")]
    assert "a" not in table
