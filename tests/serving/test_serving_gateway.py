"""The HTTP face in front of a real engine, in this process."""

import asyncio
import json
from dataclasses import replace

import pytest
from tests.serving.in_process import FixedModels, client_of

from heliostat.errors import ServingError
from heliostat.serving.access.config import AccessConfig, AuditConfig
from heliostat.serving.access.keyring import PlainKeys
from heliostat.serving.config import ServeConfig
from heliostat.serving.gateway.app import build_gateway
from heliostat.serving.gateway.services import Doormen, Services
from heliostat.text.chat import render_conversation

pytestmark = pytest.mark.anyio
CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What does str.upper do?"},
    {"role": "assistant", "content": "It returns a copy in upper case."},
    {"role": "user", "content": "And str.lower? 日本"},
]
ASKED = {"model": "tiny", "messages": CONVERSATION, "max_tokens": 24, "temperature": 0}


async def ask(client, **changes):
    return await client.post("/v1/chat/completions", json=ASKED | changes)


def events_of(response) -> list:
    """The decoded events of a stream; the last one is "[DONE]"."""
    blocks = response.text.split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") for block in blocks)
    datas = [block.removeprefix("data: ") for block in blocks]
    return [data if data == "[DONE]" else json.loads(data) for data in datas]


def text_of(events) -> str:
    return "".join(
        event["choices"][0]["delta"].get("content", "") for event in events[:-1] if event["choices"]
    )


async def test_a_whole_answer_has_text_reason_and_usage(client, tiny_tokenizer):
    response = await ask(client)
    assert response.status_code == 200
    body = response.json()
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    (choice,) = body["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["finish_reason"] == "length"
    prompt_tokens = body["usage"]["prompt_tokens"]
    assert body["usage"] == {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": 24,
        "total_tokens": prompt_tokens + 24,
    }


async def test_a_stream_has_the_same_text_in_openais_chunks(client):
    whole = (await ask(client)).json()
    response = await ask(client, stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_of(response)
    assert events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert events[0]["object"] == "chat.completion.chunk"
    assert events[-1] == "[DONE]"
    assert events[-2]["choices"] == []
    assert events[-2]["usage"] == whole["usage"]
    assert events[-3]["choices"][0]["delta"] == {}
    assert events[-3]["choices"][0]["finish_reason"] == "length"
    assert all(event["usage"] is None for event in events[:-2])
    assert len({event["id"] for event in events[:-1]}) == 1
    assert text_of(events) == whole["choices"][0]["message"]["content"]


async def test_usage_comes_only_when_asked(client):
    events = events_of(await ask(client, stream=True))
    assert all("usage" not in event for event in events[:-1])


async def test_the_engine_receives_what_training_saw_in_front_of_the_answer(
    client, recording_engine, tiny_tokenizer
):
    content = (await ask(client)).json()["choices"][0]["message"]["content"]
    answered = [*CONVERSATION, {"role": "assistant", "content": content}]
    rendered = render_conversation(answered, tiny_tokenizer)
    (prompt_ids,) = recording_engine.prompts
    assert rendered.input_ids[: len(prompt_ids)] == prompt_ids
    assert rendered.loss_mask[len(prompt_ids)] == 1
    assert tiny_tokenizer.decode(prompt_ids).endswith("<|im_start|>assistant\n")


async def test_a_stop_string_cuts_the_answer_and_frees_the_engine(client, recording_engine):
    text = (await ask(client)).json()["choices"][0]["message"]["content"]
    stop = text[6:9]
    for stream in (False, True):
        response = await ask(client, stop=[stop], stream=stream, max_tokens=300)
        if stream:
            events = events_of(response)
            shown, reason = text_of(events), events[-2]["choices"][0]["finish_reason"]
        else:
            (choice,) = response.json()["choices"]
            shown, reason = choice["message"]["content"], choice["finish_reason"]
        assert shown == text[: text.find(stop)]
        assert reason == "stop"
        assert recording_engine.engine.stats().num_requests == 0


async def test_a_seed_repeats_an_answer(client):
    texts = [
        (await ask(client, temperature=1, seed=seed)).json()["choices"][0]["message"]["content"]
        for seed in (3, 3, 4)
    ]
    assert texts[0] == texts[1] != texts[2]


async def test_without_a_limit_the_default_holds(client):
    response = await ask(client, max_tokens=None)
    assert response.json()["usage"]["completion_tokens"] == 16


async def test_models_are_listed_and_found(client):
    listed = (await client.get("/v1/models")).json()
    assert [card["id"] for card in listed["data"]] == ["tiny"]
    assert (await client.get("/v1/models/tiny")).json() == listed["data"][0]
    missing = await client.get("/v1/models/none")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"


async def test_health_answers(client):
    response = await client.get("/healthz")
    assert (response.status_code, response.json()["status"]) == (200, "ok")


class DeadEngine:
    async def check_health(self) -> None:
        raise ServingError("out of memory")


async def test_health_says_whose_it_is_even_when_the_engine_is_lost(served):
    async with client_of(build_gateway(FixedModels(replace(served, engine=DeadEngine())))) as client:
        response = await client.get("/healthz")
    assert (response.status_code, response.json()["models"]) == (503, ["tiny"])


@pytest.mark.parametrize(
    ("changes", "status", "code", "words"),
    [
        ({"model": "gpt"}, 404, "model_not_found", "served here: tiny"),
        ({"messages": []}, 400, "empty_array", "empty"),
        ({"messages": CONVERSATION[:3]}, 400, "invalid_value", "last message"),
        ({"messages": CONVERSATION[1:2] * 2}, 400, "invalid_value", "take turns"),
        ({"n": 0}, 400, "invalid_value", "'n'"),
        ({"max_tokens": 301}, 400, "invalid_value", "at most 300"),
        ({"temperature": -1}, 400, "invalid_value", "temperature"),
    ],
)
async def test_refusals_have_openais_body(client, changes, status, code, words):
    response = await ask(client, **changes)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert words in error["message"]


async def test_a_context_that_is_too_long_names_both_numbers(client, recording_engine):
    long = [{"role": "user", "content": "word " * 600}]
    response = await ask(client, messages=long)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "context_length_exceeded"
    for words in ("maximum context length is 512 tokens", "prompt is too long", "the messages take"):
        assert words in error["message"]  # by the first two clients know this error
    fits = [{"role": "user", "content": "word " * 100}]
    error = (await ask(client, messages=fits, max_tokens=300)).json()["error"]
    assert "and 300 for the answer" in error["message"]
    assert recording_engine.prompts == []


@pytest.mark.parametrize("body", [b"{", b"", b"[1]", b'"text"', b"\xff\xfe", b"[" * 100_000])
async def test_a_body_that_is_no_json_object_is_refused(client, body):
    response = await client.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_json"


async def test_a_body_over_the_limit_is_refused(served):
    async with client_of(build_gateway(FixedModels(served), ServeConfig(max_request_bytes=2000))) as client:
        response = await client.post("/v1/chat/completions", content=b" " * 2001)
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "request_too_large"
        assert (await ask(client)).status_code == 200


async def test_unknown_paths_and_methods_have_openais_body(client):
    missing = await client.get("/v1/none")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    wrong = await client.get("/v1/chat/completions")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")


async def test_with_keys_only_their_holders_get_in(served, tmp_path):
    file = tmp_path / "keys"
    file.write_text("secret\n")
    config = AccessConfig(audit=AuditConfig(enabled=False))
    doormen = Doormen.of(config, loopback_only=True, storage=None, plain=PlainKeys.read(str(file)))
    application = build_gateway(FixedModels(served), services=Services(doormen))
    async with client_of(application) as client:
        refused = await ask(client)
        assert refused.status_code == 401
        assert refused.json()["error"]["code"] == "invalid_api_key"
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/v1/models")).status_code == 401
        assert (await client.get("/v1//models")).status_code == 401
    async with client_of(application, headers={"authorization": "Bearer secret"}) as client:
        assert (await ask(client)).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_the_engine(served, recording_engine, stream):
    body = json.dumps(ASKED | {"max_tokens": 300, "stream": stream}).encode()
    left = asyncio.Event()
    sent: list[dict] = []
    requests = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict:
        if requests:
            return requests.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)
        if len(sent) == 4:
            left.set()

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [],
        "query_string": b"",
        "client": ("127.0.0.1", 1),
    }
    if not stream:
        asyncio.get_running_loop().call_later(0.02, left.set)
    await asyncio.wait_for(build_gateway(FixedModels(served))(scope, receive, send), 20)
    engine = recording_engine.engine
    assert engine.stats().num_requests == 0
    assert len(sent) < 100


class FailingEngine:
    """A real engine that is lost after some deltas."""

    def __init__(self, engine, after: int) -> None:
        self.engine = engine
        self.after = after

    @property
    def capabilities(self):
        return self.engine.capabilities

    async def generate(self, prompt_ids, parameters, request_id, adapter=None):
        seen = 0
        async for delta in self.engine.generate(prompt_ids, parameters, request_id, adapter):
            if seen >= self.after:
                await self.engine.abort(request_id)
                return
            seen += 1
            yield delta

    async def check_health(self) -> None:
        await self.engine.check_health()


async def test_an_engine_lost_before_the_first_token_is_a_503(served, transformers_engine):
    lost = replace(served, engine=FailingEngine(transformers_engine, 0))
    async with client_of(build_gateway(FixedModels(lost))) as client:
        for stream in (True, False):
            response = await ask(client, stream=stream)
            assert response.status_code == 503
            assert response.json()["error"]["type"] == "server_error"


async def test_an_engine_lost_in_a_stream_ends_it_with_an_error_event(served, transformers_engine):
    lost = replace(served, engine=FailingEngine(transformers_engine, 5))
    async with client_of(build_gateway(FixedModels(lost))) as client:
        response = await ask(client, stream=True)
        assert response.status_code == 200
        events = events_of(response)
        assert events[-1]["error"]["code"] == "engine_unavailable"
        assert "[DONE]" not in events
