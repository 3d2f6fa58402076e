"""LiteLLM's client and router, in an environment of their own, against a gateway with a real engine."""

import asyncio
import json
import math

import pytest
from tests.serving.other_clients import CALLED_AND_ANSWERED, CALLED_IN_A_STREAM, LITELLM, endpoint_at

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600)]
SCRIPT = "litellm_script.py"
SCENES = (
    "completion",
    "stream",
    "asynchronous",
    "text_completion",
    "logprobs",
    "response_format",
    "tools",
    "tools_streamed",
    "forced_tool",
    "embedding",
    "refusals",
)


@pytest.fixture(scope="module")
async def endpoint(tmp_path_factory, tiny_served):
    async with endpoint_at(tmp_path_factory.mktemp("workspace"), tiny_served) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
async def said(endpoint):
    return await endpoint.run(LITELLM, SCRIPT, SCENES)


async def test_an_answer_has_text_model_reason_and_usage(said):
    answer = said["completion"]
    assert answer["text"]
    assert (answer["model"], answer["finish_reason"]) == ("tiny", "length")
    prompt_tokens, completion_tokens, total_tokens = answer["usage"]
    assert completion_tokens == 24
    assert total_tokens == prompt_tokens + 24


async def test_a_stream_comes_in_pieces_with_the_same_text_and_usage(said):
    assert said["stream"]["num_chunks"] > 5
    assert said["stream"]["text"] == said["completion"]["text"]
    assert said["stream"]["usage"] == said["completion"]["usage"]


async def test_asking_without_waiting_gives_the_same(said):
    assert said["asynchronous"] == dict.fromkeys(("whole", "streamed"), said["completion"]["text"])


async def test_a_text_is_continued(said):
    assert said["text_completion"]


async def test_each_token_has_its_logprob(said):
    assert len(said["logprobs"]) == 24
    assert all(logprob <= 0 for _, logprob in said["logprobs"])


async def test_an_object_of_the_callers_class_comes_back(said):
    assert said["response_format"]["sky"] in ("sunny", "cloudy")


async def test_a_tool_is_called_and_its_result_answered(said):
    assert said["tools"] == CALLED_AND_ANSWERED


async def test_a_call_is_put_together_from_a_stream(said):
    assert said["tools_streamed"] == CALLED_IN_A_STREAM


async def test_a_forced_tool_is_called(said):
    assert said["forced_tool"] == ["weather"]


async def test_texts_become_vectors_of_length_one(said):
    first, second = said["embedding"]["vectors"]
    assert math.hypot(*first) == pytest.approx(1, abs=1e-4)
    assert said["embedding"]["floats"] == pytest.approx(first, abs=1e-5)
    assert first != second
    assert said["embedding"]["prompt_tokens"] > 4


@pytest.mark.parametrize(
    ("refused", "kind", "status"),
    [
        ("key", "AuthenticationError", 401),
        ("model", "NotFoundError", 404),
        ("context", "ContextWindowExceededError", 400),
        ("value", "BadRequestError", 400),
        ("filter", "ContentPolicyViolationError", 400),
        ("embedding", "ContextWindowExceededError", 400),
    ],
)
async def test_a_refusal_is_an_error_that_can_be_told_from_others(said, refused, kind, status):
    assert kind == said["refusals"][refused]["kinds"][0]
    assert status == said["refusals"][refused]["status"]


@pytest.mark.usefixtures("still_clock")
async def test_a_limit_is_an_error_that_says_when_to_try_again(endpoint):
    key = endpoint.key_with(requests_per_minute=1)
    said = (await endpoint.run(LITELLM, SCRIPT, ["limited"], key))["limited"]
    assert (said["kinds"][0], said["status"]) == ("RateLimitError", 429)
    assert int(said["retry_after"]) >= 1


async def test_the_router_waits_as_long_as_it_is_told_and_tries_again(endpoint):
    key = endpoint.key_with(concurrency=1)
    doormen = endpoint.services.doormen
    doormen.access.refresh()
    caller = doormen.access.admit([(b"authorization", f"Bearer {key}".encode())], "127.0.0.1", "chat")
    held = await doormen.limits.acquire(caller, 1)
    asking = asyncio.create_task(endpoint.run(LITELLM, SCRIPT, ["router"], key))
    while not (statuses := statuses_of(doormen.audit.path, caller.key_prefix)):
        assert not asking.done(), await asking
        await asyncio.sleep(0.02)
    held.release()
    said = (await asking)["router"]
    assert statuses == [429]
    assert said["text"]
    assert said["seconds"] >= 1
    while len(statuses := statuses_of(doormen.audit.path, caller.key_prefix)) < 2:
        await asyncio.sleep(0.02)
    assert statuses == [429, 200]


def statuses_of(audit, key_prefix: str) -> list[int]:
    """The statuses of a key's requests, in their order."""
    entries = map(json.loads, audit.read_text().splitlines()) if audit.exists() else ()
    return [entry["status"] for entry in entries if entry.get("key_prefix") == key_prefix]
