"""ENDPOINT:ADAPTER over HTTP: who is asked, listed, let in, kept and counted."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from tests.serving.adapter_engine import AdapterEngine, adapter, pool_of
from tests.serving.in_process import client_of
from tests.serving.test_serving_channel import SECRET, no_wake
from tests.small_artifacts import publish_model

from heliostat.endpoints import ServedAdapter, Version
from heliostat.errors import ServingError
from heliostat.records import now
from heliostat.serving.access.config import AccessConfig, AuditConfig
from heliostat.serving.access.key_records import KeyScope
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.cache.config import CacheConfig
from heliostat.serving.cache.response_cache import ResponseCache
from heliostat.serving.channel.server import ChannelServer
from heliostat.serving.config import ServeConfig
from heliostat.serving.engines.interface import EngineStats
from heliostat.serving.fleet.controller import Controller, Gateway
from heliostat.serving.fleet.dispatch import Fleet
from heliostat.serving.fleet.routes import Replica, Route, Snapshot, adapter_of
from heliostat.serving.fleet.status import EndpointStatus, version_status
from heliostat.serving.gateway.app import build_gateway
from heliostat.serving.gateway.catalogue import Catalogue
from heliostat.serving.gateway.kept_answers import KeptAnswers
from heliostat.serving.gateway.metrics import GatewayMetrics
from heliostat.serving.gateway.services import Doormen, Services
from heliostat.workspace import Workspace

pytestmark = pytest.mark.anyio
SQL, LAW = adapter("sql"), adapter("law")
NO_STORE = {"cache-control": "no-store"}


@pytest.fixture(scope="module")
def model(tmp_path_factory, tiny_model_folder):
    workspace = Workspace.resolve(str(tmp_path_factory.mktemp("adapters") / "workspace"))
    return publish_model(workspace, tiny_model_folder)


class Served:
    """A gateway over one replica a version, all in this process."""

    def __init__(self, model, tokenizer) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.fleet = Fleet(SECRET, no_wake)
        self.catalogue = Catalogue(self.fleet)
        self.engines: dict[str, AdapterEngine] = {}
        self.replicas: dict[str, Replica] = {}
        self.stack = AsyncExitStack()

    def version(self, label: str, *adapters: ServedAdapter, weight: float = 100) -> Version:
        return Version(
            label=label,
            app_name=f"app-{label}",
            weight=weight,
            artifact_id=self.model.id,
            artifact_uri=self.model.uri,
            engine="transformers",
            config=ServeConfig(name="tiny").canonical(),
            started_at=now(),
            adapters=adapters,
        )

    async def serve(self, *versions: Version) -> None:
        for version in versions:
            if version.app_name not in self.replicas:
                await self._start(version)
        route = Route("tiny", versions)
        await self.catalogue.update(Snapshot(1, (route,), tuple(self.replicas.values())))

    async def _start(self, version: Version) -> None:
        engine = self.engines[version.label] = AdapterEngine(
            lambda text: self.tokenizer.encode(text, add_special_tokens=False)
        )
        server = await ChannelServer.start(engine, SECRET, 16, adapters=pool_of(engine))
        self.stack.push_async_callback(server.close)
        self.replicas[version.app_name] = Replica(
            version.label, version.app_name, "127.0.0.1", server.port, 16, engine.capabilities, 2000
        )


@pytest.fixture
async def served(model, tiny_tokenizer):
    served = Served(model, tiny_tokenizer)
    await served.serve(served.version("v1", SQL, LAW))
    yield served
    await served.fleet.close()
    await served.stack.aclose()


@asynccontextmanager
async def client(served, services: Services | None = None, **options):
    async with client_of(build_gateway(served.catalogue, services=services), **options) as client:
        yield client


async def ask(client, model: str, headers=NO_STORE, **more):
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "temperature": 0} | more
    return await client.post("/v1/chat/completions", json=body, headers=headers)


def content(response) -> str:
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


async def test_a_request_is_answered_with_the_adapter_it_names(served, model):
    async with client(served) as http:
        assert content(await ask(http, "tiny")) == "base"
        answer = await ask(http, "tiny:sql")
        assert content(answer) == SQL.artifact_id
        assert answer.json()["model"] == "tiny:sql"
        assert answer.json()["system_fingerprint"] == f"{model.id}+{SQL.artifact_id}"
        stream = await ask(http, "tiny:law", stream=True)
        assert '"tiny:law"' in stream.text
        several = await http.post(
            "/v1/completions",
            json={"model": "tiny:law", "prompt": ["a", "b"], "temperature": 0},
            headers=NO_STORE,
        )
        assert [choice["text"] for choice in several.json()["choices"]] == [LAW.artifact_id] * 2


async def test_adapters_are_listed_with_the_model_that_they_are_for(served, model):
    async with client(served) as http:
        cards = {card["id"]: card for card in (await http.get("/v1/models")).json()["data"]}
        assert list(cards) == ["tiny", "tiny:law", "tiny:sql"]
        assert (cards["tiny"]["root"], cards["tiny"]["parent"]) == (model.id, None)
        assert (cards["tiny:sql"]["root"], cards["tiny:sql"]["parent"]) == (SQL.artifact_id, "tiny")
        assert (await http.get("/v1/models/tiny:sql")).json() == cards["tiny:sql"]


@pytest.mark.parametrize("name", ["tiny:none", "tiny:", "tiny:sql:law", "tiny:SQL"])
async def test_an_unknown_adapter_is_a_404_that_names_those_there_are(served, name):
    async with client(served) as http:
        missing = await ask(http, name)
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
        assert "adapters there are: tiny:law, tiny:sql" in missing.json()["error"]["message"]
        other = await ask(http, "other:sql")
        assert "served here: tiny, tiny:law, tiny:sql" in other.json()["error"]["message"]


async def test_an_adapter_makes_no_embeddings(served):
    async with client(served) as http:
        asked = {"model": "tiny:sql", "input": "Hi"}
        refused = await http.post("/v1/embeddings", json=asked)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unsupported_parameter")
        assert "ask 'tiny'" in refused.json()["error"]["message"]
        assert (await http.post("/v1/embeddings", json=asked | {"model": "tiny"})).status_code == 200


async def test_a_load_that_fails_is_an_error_of_its_requests_alone(served):
    served.engines["v1"].faults[SQL.artifact_id] = ServingError("no such layer")
    async with client(served) as http:
        failed, fine = await asyncio.gather(ask(http, "tiny:sql"), ask(http, "tiny:law"))
        assert (failed.status_code, content(fine)) == (503, LAW.artifact_id)
        assert "adapter sql cannot be loaded: no such layer" in failed.json()["error"]["message"]


@pytest.mark.parametrize(
    ("pattern", "opened"),
    [
        ("tiny", ["tiny"]),
        ("tiny:*", ["tiny:law", "tiny:sql"]),
        ("tiny:sql", ["tiny:sql"]),
        ("tiny*", ["tiny", "tiny:law", "tiny:sql"]),
    ],
)
async def test_a_keys_patterns_are_about_the_whole_name(served, tmp_path, pattern, opened):
    workspace = Workspace.resolve(str(tmp_path))
    key, _ = KeyStore(workspace.storage).create(KeyScope(tenant="acme", name="ci", models=(pattern,)))
    config = AccessConfig(audit=AuditConfig(enabled=False))
    services = Services(Doormen.of(config, loopback_only=True, storage=workspace.storage))
    async with client(served, services, headers={"authorization": f"Bearer {key}"}) as http:
        assert [card["id"] for card in (await http.get("/v1/models")).json()["data"]] == opened
        for name in ("tiny", "tiny:law", "tiny:sql"):
            assert (await ask(http, name)).status_code == (200 if name in opened else 403)


async def test_what_is_kept_of_one_adapter_is_not_given_for_another_or_for_its_successor(served):
    services = Services(answers=KeptAnswers(ResponseCache(CacheConfig())))
    async with client(served, services) as http:
        for name, text in (("tiny", "base"), ("tiny:sql", SQL.artifact_id), ("tiny:law", LAW.artifact_id)):
            first, again = await ask(http, name, {}), await ask(http, name, {})
            assert (content(first), content(again)) == (text, text)
            assert (first.headers["x-cache"], again.headers["x-cache"]) == ("miss", "exact")
        newer = adapter("sql", 2)
        await served.serve(served.version("v1", newer, LAW))
        changed = await ask(http, "tiny:sql", {})
        assert (content(changed), changed.headers["x-cache"]) == (newer.artifact_id, "miss")
        assert (await ask(http, "tiny:law", {})).headers["x-cache"] == "exact"


async def test_requests_count_for_the_endpoints_canary_and_for_the_adapter(served):
    metrics = GatewayMetrics()
    async with client(served, Services(metrics=metrics)) as http:
        await ask(http, "tiny")
        await ask(http, "tiny:sql")
        text = (await http.get("/metrics")).text
    assert metrics.figures()["tiny/v1"].num_requests == 2
    labels = 'adapter="sql",model_name="tiny",status="200",version="v1"'
    assert f"heliostat_adapter_requests_total{{{labels}}} 1.0" in text


async def test_versions_that_have_the_adapter_answer_and_a_session_stays_with_one(served):
    first, second = served.version("v1", SQL, weight=50), served.version("v2", SQL, LAW, weight=50)
    await served.serve(first, second)
    assert served.catalogue.names == ["tiny", "tiny:law", "tiny:sql"]
    async with client(served) as http:
        for session in map(str, range(8)):
            headers = NO_STORE | {"x-session-id": session}
            assert (await ask(http, "tiny:law", headers)).headers["x-heliostat-version"] == "v2"
            labels = {(await ask(http, "tiny:sql", headers)).headers["x-heliostat-version"] for _ in range(3)}
            assert labels == {(await ask(http, "tiny", headers)).headers["x-heliostat-version"]}
        await served.serve(first.model_copy(update={"weight": 100}), second.model_copy(update={"weight": 0}))
        assert (await ask(http, "tiny:law")).status_code == 404  # only a version without a share has it


async def test_the_last_words_of_replicas_tell_where_adapters_are(served):
    version = served.version("v1", SQL, LAW)
    pool = pool_of(AdapterEngine(), max_loaded=1)
    replica = served.replicas["app-v1"]
    async with pool.using(SQL):
        waiting = asyncio.create_task(pool.using(LAW).__aenter__())
        await asyncio.sleep(0)
        stats = EngineStats(2, 1, 1, adapters=pool.uses())
        waiting.cancel()
    controller = Controller()
    controller.report_replica(replica, stats)
    snapshot = await controller.watch("g", Gateway("http://g"), 0, 1)
    assert snapshot.adapters == {"v1": frozenset([SQL.artifact_id])}
    status = EndpointStatus(
        name="tiny", url="http://x", note=None, versions=(version_status(version, [(replica, stats)]),)
    )
    text = GatewayMetrics().exposition([status]).decode()
    labels = 'model_name="tiny",replica="v1"'
    assert f'heliostat_adapters_loaded{{{labels},version="v1"}} 1.0' in text
    assert f'heliostat_adapter_requests_in_progress{{adapter="sql",{labels},version="v1"}} 1.0' in text
    running = 'running_lora_adapters="tiny:sql",version="v1",waiting_lora_adapters="tiny:law"'
    assert f'vllm:lora_requests_info{{max_lora="8",{labels},{running}}}' in text


def test_an_adapter_is_found_by_its_name_alone(model):
    version = Served(model, None).version("v1", SQL)
    assert adapter_of(version, "sql") == SQL
    assert adapter_of(version, "") is None
    assert adapter_of(version, "adapter-sql1") is None
