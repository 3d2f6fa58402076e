"""A request's whole way through the gateway: keys, limits, guard, cache, documents, audit; a real engine
behind.
"""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest
from tests.serving.in_process import client_of
from tests.serving.test_serving_gateway import ASKED, ask, events_of

from heliostat.serving.access.config import AccessConfig, Limits
from heliostat.serving.access.key_records import KeyScope
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.cache.config import CacheConfig
from heliostat.serving.cache.response_cache import ResponseCache
from heliostat.serving.config import ServeConfig
from heliostat.serving.gateway.app import build_gateway
from heliostat.serving.gateway.choosing import Chosen
from heliostat.serving.gateway.kept_answers import KeptAnswers
from heliostat.serving.gateway.services import Doormen, Services
from heliostat.serving.guard.config import GuardConfig, PatternRule, PiiRule, WordsRule
from heliostat.serving.guard.guard import Guard
from heliostat.serving.guard.review_queue import ReviewQueue
from heliostat.serving.retrieval.config import RetrievalConfig
from heliostat.serving.retrieval.store import Collections

pytestmark = pytest.mark.anyio
GUARD = GuardConfig(
    rules=(
        WordsRule(id="forbidden", on="input", action="block", words=("abracadabra",)),
        PiiRule(id="personal", on="input", action="redact", kinds=("email",)),
        PatternRule(id="odd", on="input", action="review", patterns=("please hold",)),
    )
)


class Guarded:
    """The tiny model behind a guard that can be changed."""

    names = ("tiny",)

    def __init__(self, served, guard: Guard | None) -> None:
        self.served = served
        self.guard = guard

    def choose(self, name, session) -> Chosen:
        return Chosen(self.served, "v1", "model-1", self.guard)


async def embed(texts: list[str]) -> np.ndarray:
    """Words counted in 64 places, to length 1."""
    vectors = np.zeros((len(texts), 64), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            vectors[row, sum(word.encode()) % 64] += 1
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


@pytest.fixture
def keys(workspace) -> KeyStore:
    return KeyStore(workspace.storage)


@pytest.fixture
def key(keys) -> str:
    return keys.create(KeyScope(name="one", tenant="a"))[0]


@pytest.fixture
def models(served) -> Guarded:
    return Guarded(served, Guard.build(GUARD))


@pytest.fixture
def services(workspace, key) -> Services:
    return Services(
        Doormen.of(AccessConfig(), loopback_only=True, storage=workspace.storage),
        answers=KeptAnswers(ResponseCache(CacheConfig())),
        reviews=ReviewQueue(workspace.storage),
        collections=Collections(workspace.storage, RetrievalConfig(), embed, "words"),
    )


@pytest.fixture
async def gateway(models, services):
    config = ServeConfig(retrieval=RetrievalConfig(), max_request_bytes=20_000, body_timeout_seconds=0.3)
    yield build_gateway(models, config, services)
    services.doormen.audit.close()


@pytest.fixture
async def client(gateway, key):
    async with client_of(gateway, headers={"authorization": f"Bearer {key}"}) as client:
        yield client


def question(text: str) -> dict:
    return {"messages": [{"role": "user", "content": text}]}


async def test_an_answer_is_kept_for_the_same_question_of_the_same_tenant_only(
    client, gateway, keys, services, recording_engine
):
    first = await ask(client)
    assert first.headers["x-cache"] == "miss"
    again = await ask(client)
    assert again.headers["x-cache"] == "exact"
    assert again.json()["choices"] == first.json()["choices"]
    assert again.json()["usage"] == first.json()["usage"]
    streamed = await ask(client, stream=True)
    assert streamed.headers["x-cache"] == "exact"
    text = "".join(
        event["choices"][0]["delta"].get("content", "")
        for event in events_of(streamed)[:-1]
        if event["choices"]
    )
    assert text == first.json()["choices"][0]["message"]["content"]
    assert (await ask(client, max_tokens=23)).headers["x-cache"] == "miss"
    assert "x-cache" not in (await ask(client, n=2)).headers
    assert len(recording_engine.prompts) == 4
    other, _ = keys.create(KeyScope(name="two", tenant="b"))
    services.doormen.access.refresh()
    async with client_of(gateway, headers={"authorization": f"Bearer {other}"}) as stranger:
        assert (await ask(stranger)).headers["x-cache"] == "miss"


async def test_a_client_can_leave_the_cache_aside(client, recording_engine):
    body = ASKED | question("Leave it aside")
    for value in ("no-store", "no-store", "no-cache"):
        response = await client.post("/v1/chat/completions", json=body, headers={"cache-control": value})
        assert response.headers["x-cache"] == "miss"
    assert (await client.post("/v1/chat/completions", json=body)).headers["x-cache"] == "exact"
    assert len(recording_engine.prompts) == 3


async def test_what_a_rule_blocks_never_reaches_the_engine(client, recording_engine, services):
    refused = await ask(client, **question("Say Abra\u200bcadabra!"))
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "content_policy_violation"
    assert "'forbidden'" in refused.json()["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert recording_engine.prompts == []
    assert 'rule="forbidden"' in services.metrics.exposition().decode()


async def test_the_developers_own_words_are_not_looked_at(client):
    messages = [{"role": "system", "content": "Never say abracadabra."}, {"role": "user", "content": "Hi"}]
    assert (await ask(client, messages=messages)).status_code == 200


async def test_personal_data_is_taken_out_before_the_model_reads_it(client, recording_engine, tiny_tokenizer):
    assert (await ask(client, **question("Write to jane.doe@example.org now"))).status_code == 200
    (prompt,) = recording_engine.prompts
    text = tiny_tokenizer.decode(prompt)
    assert "jane.doe" not in text
    assert "Write to" in text


async def test_a_request_that_is_held_passes_when_a_person_approves_it(client, gateway, keys, services):
    held = await ask(client, **question("please hold this"))
    assert held.status_code == 403
    assert "waits for a person's review" in held.json()["error"]["message"]
    assert (await client.get("/admin/reviews")).status_code == 403
    operator, _ = keys.create(KeyScope(name="op", tenant="ops", routes=("admin",)))
    services.doormen.access.refresh()
    async with client_of(gateway, headers={"authorization": f"Bearer {operator}"}) as admin:
        (item,) = (await admin.get("/admin/reviews?status=pending")).json()["reviews"]
        assert item["texts"] == ["please hold this"]
        decided = await admin.post(f"/admin/reviews/{item['id']}/approve", json={"reason": "fine"})
        assert decided.json()["by"] == "op"
        assert (await admin.post("/admin/reviews/..%2f..%2fx/approve")).status_code == 404
    assert (await ask(client, **question("please hold this"))).status_code == 200


async def test_an_answer_is_cut_where_a_rule_forbids_it_and_not_kept(client, models, recording_engine):
    models.guard = None
    text = (await ask(client)).json()["choices"][0]["message"]["content"]
    word = max(text.split(), key=len)
    rule = PatternRule(id="never", on="output", action="block", patterns=(word.replace("\ufffd", "."),))
    models.guard = Guard.build(GuardConfig(rules=(rule,)))
    for stream in (False, True):
        response = await ask(client, stream=stream)
        assert response.headers["x-cache"] == "miss"
        if stream:
            last = events_of(response)[-2]["choices"][0]
        else:
            (last,) = response.json()["choices"]
            assert last["message"]["content"] == text[: text.index(word)]
        assert last["finish_reason"] == "content_filter"
    assert recording_engine.engine.stats().num_requests == 0


async def test_documents_are_put_in_front_of_a_question_and_cited(client, recording_engine, tiny_tokenizer):
    documents = [
        {"id": "lower", "text": "str.lower returns a copy in lower case."},
        {"id": "mirror", "text": "A heliostat is a mirror that follows the sun."},
    ]
    added = await client.post("/v1/collections/manual/documents", json={"documents": documents})
    assert added.json()["num_documents"] == 2
    found = await client.post("/v1/collections/manual/search", json={"query": "a mirror", "top_k": 1})
    assert [hit["document_id"] for hit in found.json()["passages"]] == ["mirror"]
    asked = question("What mirror follows the sun?") | {"retrieval": {"collection": "manual", "top_k": 1}}
    whole = (await ask(client, **asked)).json()
    assert [cited["document_id"] for cited in whole["citations"]] == ["mirror"]
    assert "follows the sun." in tiny_tokenizer.decode(recording_engine.prompts[-1])
    first = events_of(await ask(client, **asked, stream=True))[0]
    assert (first["choices"], first["citations"][0]["document_id"]) == ([], "mirror")
    missing = await ask(client, **(asked | {"retrieval": {"collection": "none"}}))
    assert missing.status_code == 404


async def test_each_request_is_a_line_in_the_audit_log_without_key_or_text(client, key, services, workspace):
    await ask(client, **question("secret words"))
    await client.get("/v1/models", headers={"authorization": "Bearer nobody"})
    await asyncio.to_thread(services.doormen.audit.close)
    written = services.doormen.audit.path.read_text()
    assert key not in written
    assert "secret words" not in written
    first, second = map(json.loads, written.splitlines())
    assert (first["tenant"], first["model"], first["version"], first["status"]) == ("a", "tiny", "v1", 200)
    assert first["completion_tokens"] == 24
    assert (second["status"], second["error"]) == (401, "invalid_api_key")


@pytest.mark.usefixtures("still_clock")
async def test_limits_of_a_key_are_429_with_a_time_to_wait(gateway, keys, services):
    limited = KeyScope(name="three", tenant="c", limits=Limits(requests_per_minute=1))
    key, _ = keys.create(limited)
    services.doormen.access.refresh()
    async with client_of(gateway, headers={"authorization": f"Bearer {key}"}) as client:
        responses = [await ask(client) for _ in range(2)]
    assert [response.status_code for response in responses] == [200, 429]
    assert int(responses[1].headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": ""}, 401),
        ({"x-forwarded-for": "127.0.0.1", "authorization": "Bearer"}, 401),
    ],
)
async def test_without_a_key_nothing_is_told(gateway, headers, status):
    async with client_of(gateway, headers=headers) as client:
        for path in ("/v1/models", "/v1//models", "/v1/models/../models", "/metrics", "/openapi.json", "/x"):
            assert (await client.get(path)).status_code == status
        assert (await client.get("/healthz")).status_code == 200
        assert (await ask(client)).status_code == status


@pytest.mark.parametrize("given", ["a\nb: c", "x" * 129, "ä", "", "<script>"])
async def test_a_request_id_is_the_clients_only_if_it_is_sound(client, given):
    echoed = (await client.get("/v1/models", headers={"x-request-id": given.encode()})).headers[
        "x-request-id"
    ]
    assert echoed != given
    sound = await client.get("/v1/models", headers={"x-request-id": "trace-1"})
    assert sound.headers["x-request-id"] == "trace-1"


async def test_a_body_that_does_not_come_is_given_up(gateway, key):
    sent: list[dict] = []

    async def receive() -> dict:
        await asyncio.sleep(30)
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [(b"authorization", f"Bearer {key}".encode())],
        "query_string": b"",
        "client": ("127.0.0.1", 1),
    }
    await asyncio.wait_for(gateway(scope, receive, send), 5)
    assert sent[0]["status"] == 408


async def test_prometheus_reads_what_was_done(client, services):
    await ask(client)
    text = services.metrics.exposition().decode()
    assert "vllm:generation_tokens_total{" in text
    assert 'heliostat_cache_lookups_total{model_name="tiny",outcome="miss"} 1.0' in text
    assert (await client.get("/metrics")).status_code == 403  # the key does not open it


async def test_a_changed_guard_is_followed_from_the_next_request_on(client, models):
    assert (await ask(client, **question("abracadabra"))).status_code == 400
    models.guard = replace(models.guard, requests=Guard.build(GuardConfig(rules=())).requests)
    assert (await ask(client, **question("abracadabra"))).status_code == 200
