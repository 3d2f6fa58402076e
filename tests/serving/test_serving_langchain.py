"""LangChain's own client, in an environment of its own, against a listening gateway with a real engine."""

import math

import pytest
from tests.serving.other_clients import CALLED_AND_ANSWERED, CALLED_IN_A_STREAM, LANGCHAIN, endpoint_at

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600)]
SCENES = (
    "invoke",
    "stream",
    "batch",
    "asynchronous",
    "logprobs",
    "json_schema",
    "json_schema_streamed",
    "json_mode",
    "function_calling",
    "forced_tool",
    "tools",
    "tools_streamed",
    "embeddings",
    "refusals",
)


@pytest.fixture(scope="module")
async def said(tmp_path_factory, tiny_served):
    async with endpoint_at(tmp_path_factory.mktemp("workspace"), tiny_served) as endpoint:
        yield await endpoint.run(LANGCHAIN, "langchain_script.py", SCENES)


async def test_an_answer_has_text_model_reason_and_usage(said):
    answer = said["invoke"]
    assert answer["text"]
    assert (answer["model"], answer["finish_reason"]) == ("tiny", "length")
    usage = answer["usage"]
    assert usage["output_tokens"] == 24
    assert usage["input_tokens"] > 5
    assert usage["total_tokens"] == usage["input_tokens"] + 24


async def test_a_stream_comes_in_pieces_with_the_same_text_and_usage(said):
    assert len([text for text in said["stream"]["texts"] if text]) > 5
    assert "".join(said["stream"]["texts"]) == said["invoke"]["text"]
    assert said["stream"]["usage"] == said["invoke"]["usage"]


async def test_a_batch_is_answered_in_its_order(said):
    first, other, again = said["batch"]
    assert first == again == said["invoke"]["text"] != other


async def test_asking_without_waiting_gives_the_same(said):
    assert said["asynchronous"] == dict.fromkeys(("whole", "streamed"), said["invoke"]["text"])


async def test_each_token_has_its_logprob(said):
    entries = said["logprobs"]["entries"]
    assert len(entries) == 24
    assert all(entry["logprob"] <= 0 and len(entry["top_logprobs"]) == 2 for entry in entries)
    spelled = bytes(byte for entry in entries for byte in entry["bytes"])
    assert spelled.decode(errors="replace") == said["logprobs"]["text"]


@pytest.mark.parametrize("scene", ["json_schema", "json_schema_streamed", "json_mode", "function_calling"])
async def test_an_object_of_the_callers_class_comes_back(said, scene):
    assert said[scene]["sky"] in ("sunny", "cloudy")
    assert isinstance(said[scene]["warm"], bool)


async def test_a_forced_tool_is_called(said):
    assert said["forced_tool"]["names"] == ["weather"]


async def test_a_tool_is_called_and_its_result_answered(said):
    assert said["tools"] == CALLED_AND_ANSWERED


async def test_a_call_is_put_together_from_a_stream(said):
    assert said["tools_streamed"] == CALLED_IN_A_STREAM


async def test_texts_become_vectors_of_length_one(said):
    first, second = said["embeddings"]["documents"]
    assert math.hypot(*first) == pytest.approx(1, abs=1e-4)
    assert said["embeddings"]["query"] == pytest.approx(first, abs=1e-5)
    assert first != second


@pytest.mark.parametrize(
    ("refused", "kind"),
    [
        ("key", "AuthenticationError"),
        ("model", "NotFoundError"),
        ("context", "ContextOverflowError"),
        ("value", "BadRequestError"),
    ],
)
async def test_a_refusal_is_an_error_that_can_be_told_from_others(said, refused, kind):
    assert kind in said["refusals"][refused]
