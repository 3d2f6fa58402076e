"""Adapters on a real endpoint: under mixed load each answers as the engine does alone, and more come live."""

import asyncio
import threading
import time

import httpx
import pytest
from tests.serving.in_process import FixedModels, client_of
from tests.serving.test_serving_deploy import publish_quantized, read_record
from tests.small_artifacts import publish_adapter, publish_model
from typer.testing import CliRunner

from heliostat.config import Resources
from heliostat.control.serving import endpoints_at
from heliostat.errors import ConfigError
from heliostat.pipeline import run_pipeline
from heliostat.recipe import Recipe
from heliostat.serving.api.answering import ServedModel
from heliostat.serving.config import AdapterConfig, OpenVINOEngineConfig, ServeConfig
from heliostat.serving.engines.selection import start_engine
from heliostat.serving.gateway.app import build_gateway
from heliostat.serving.run import deploy_model, shutdown_endpoint
from heliostat.workspace import Workspace

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]
PROMPTS = ("What does str.upper do?", "The path is a file. " * 20)
NO_STORE = {"cache-control": "no-store"}
CONFIG = ServeConfig(
    name="many",
    port=0,
    engine=OpenVINOEngineConfig(num_threads=1),
    resources=Resources(num_cpus=0.25),
    max_loaded_adapters=2,
)


def body(name: str, prompt: str) -> dict:
    return {"model": name, "prompt": prompt, "max_tokens": 12, "temperature": 0}


def with_adapters(artifacts, *names: str) -> ServeConfig:
    adapters = tuple(AdapterConfig(name=name, model=artifacts[name].uri) for name in names)
    return CONFIG.model_copy(update={"adapters": adapters})


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Workspace:
    return Workspace.resolve(str(tmp_path_factory.mktemp("many") / "workspace"))


@pytest.fixture(scope="module")
def base(place, tiny_model_folder):
    return publish_model(place, tiny_model_folder)


@pytest.fixture(scope="module")
def exported(place, base, tiny_openvino_folder):
    return publish_quantized(place, tiny_openvino_folder, "many", (base,))


@pytest.fixture(scope="module")
def artifacts(place, base, adapters):
    return {name: publish_adapter(place, folder, base, name) for name, folder in adapters.items()}


@pytest.fixture(scope="module")
def alone(tiny_openvino_folder, tiny_tokenizer, adapters) -> dict[tuple[str, str], str]:
    """What the engine answers when it is asked for one after the other."""
    return asyncio.run(answers_of(tiny_openvino_folder, tiny_tokenizer, adapters))


async def answers_of(tiny_openvino_folder, tiny_tokenizer, adapters) -> dict[tuple[str, str], str]:
    engine = await start_engine(CONFIG.engine, tiny_openvino_folder)
    models = []
    for name in (None, *adapters):
        if name:
            await engine.load_adapter(name, str(adapters[name]))
        shown = f"many:{name}" if name else "many"
        models.append(ServedModel(shown, 1, tiny_tokenizer, engine, 512, 100, 100, adapter=name))
    answers = {}
    async with client_of(build_gateway(FixedModels(*models))) as client:
        for model in models:
            for prompt in PROMPTS:
                answer = await client.post("/v1/completions", json=body(model.id, prompt))
                answers[model.id, prompt] = answer.json()["choices"][0]["text"]
    await engine.close()
    assert len(set(answers.values())) == 8
    return answers


@pytest.fixture(scope="module")
def endpoint(ray_cluster, place, exported, artifacts):
    endpoint = deploy_model(with_adapters(artifacts, "a", "b"), exported, place)
    yield endpoint
    shutdown_endpoint(endpoint)


async def wrong_answers(endpoint, expected: dict[tuple[str, str], str]) -> list[str]:
    """Ask all at once; whatever does not come out as expected."""
    async with httpx.AsyncClient(timeout=60, headers=NO_STORE) as client:

        async def ask(name: str, prompt: str) -> str | None:
            answer = await client.post(f"{endpoint.base_url}/completions", json=body(name, prompt))
            right = answer.status_code == 200 and (
                answer.json()["choices"][0]["text"] == expected[name, prompt]
            )
            return None if right else f"{name}: {answer.status_code} {answer.text}"

        answers = await asyncio.gather(*(ask(*asked) for asked in expected))
    return [answer for answer in answers if answer]


def version_of(endpoint) -> dict:
    (version,) = next(each for each in endpoints_at(endpoint.url) if each["name"] == "many")["versions"]
    return version


def without(answers: dict[tuple[str, str], str], *names: str) -> dict[tuple[str, str], str]:
    return {asked: text for asked, text in answers.items() if asked[0] not in names}


@pytest.mark.anyio
async def test_under_mixed_load_each_adapter_answers_as_the_engine_alone(endpoint, alone, artifacts):
    for _ in range(8):
        assert await wrong_answers(endpoint, without(alone, "many:c")) == []
    record = read_record(endpoint)["versions"][-1]
    assert [each["artifact_id"] for each in record["adapters"]] == [artifacts[n].id for n in ("a", "b")]
    deadline = time.monotonic() + 10
    while {use["name"] for use in version_of(endpoint)["replicas"][0]["adapters"]} != {"a", "b"}:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


def test_an_adapter_is_added_and_one_replaced_while_the_same_replica_goes_on(
    endpoint, alone, artifacts, exported, place
):
    before = version_of(endpoint)
    stop, wrong = threading.Event(), []

    def load() -> None:
        while not stop.is_set():
            wrong.extend(asyncio.run(wrong_answers(endpoint, without(alone, "many:b", "many:c"))))

    loading = threading.Thread(target=load)
    loading.start()
    try:
        deploy_model(with_adapters(artifacts, "a", "b", "c"), exported, place)
        assert asyncio.run(wrong_answers(endpoint, alone)) == []  # three, where a replica keeps two
        swapped = {"a": artifacts["a"], "c": artifacts["b"]}
        deploy_model(with_adapters(swapped, "a", "c"), exported, place)
        successor = {("many:c", prompt): alone["many:b", prompt] for prompt in PROMPTS}
        assert asyncio.run(wrong_answers(endpoint, successor)) == []
    finally:
        stop.set()
        loading.join()
    assert wrong == []
    after = version_of(endpoint)
    assert [each["process"] for each in after["replicas"]] == [each["process"] for each in before["replicas"]]
    assert after["label"] == before["label"]
    gone = httpx.post(f"{endpoint.base_url}/completions", json=body("many:b", "Hi"))
    assert gone.status_code == 404
    assert "adapters there are: many:a, many:c" in gone.json()["error"]["message"]


def test_status_shows_the_adapters_and_where_they_are(endpoint, artifacts):
    from heliostat.cli.app import app

    def row(name: str) -> list[str]:
        shown = CliRunner().invoke(app, ["serve", "status", "many", "--url", endpoint.url]).output
        (line,) = [line for line in shown.splitlines() if line.startswith(f"{name} ")]
        return line.split()[1:]

    httpx.post(f"{endpoint.base_url}/completions", json=body("many:a", "Hi"), headers=NO_STORE)
    deadline = time.monotonic() + 10
    while row("many:a")[2:6] != ["1", "of", "1", "0"]:  # loaded in one of one replicas, no request
        assert time.monotonic() < deadline, row("many:a")
        time.sleep(0.1)
    assert row("many:a")[-2:] == ["adapter", artifacts["a"].id]
    while 'running_lora_adapters=""' not in httpx.get(f"{endpoint.url}/metrics").text:
        assert time.monotonic() < deadline, "those of the tests before are over"
        time.sleep(0.1)


def test_an_adapter_of_another_model_is_refused_and_all_goes_on_as_it_was(
    endpoint, alone, exported, place, adapters, artifacts
):
    other = publish_adapter(place, adapters["a"], artifacts["b"], "alien")
    before = read_record(endpoint)
    with pytest.raises(ConfigError, match=r"serve\.adapters: alien: .* was trained on adapter-"):
        deploy_model(with_adapters({"alien": other}, "alien"), exported, place)
    assert read_record(endpoint) == before
    assert asyncio.run(wrong_answers(endpoint, without(alone, "many:b", "many:c"))) == []


def test_a_recipe_with_an_adapter_of_another_model_ends_before_its_stages(
    endpoint, place, adapters, artifacts, tiny_model_folder, tmp_path
):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "The path is a file."}\n')
    other = publish_adapter(place, adapters["a"], artifacts["b"], "alien")
    recipe = Recipe.model_validate(
        {
            "name": "many",
            "model": str(tiny_model_folder),
            "data": {"name": "rows", "sources": [{"kind": "jsonl", "path": str(rows)}]},
            "compress": {"scheme": "int8"},
            "serve": {"port": 0, "adapters": [{"name": "alien", "model": other.uri}]},
        }
    )
    with pytest.raises(ConfigError, match=r"serve\.adapters: alien: .* was trained on adapter-"):
        run_pipeline(recipe, place)
    assert place.storage.list("data/tokenized") == []
