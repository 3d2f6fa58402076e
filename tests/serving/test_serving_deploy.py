"""Endpoints on a real Ray Serve, asked with OpenAI's own client."""

import hashlib
import json
import os
import shutil
import socket
import time
from pathlib import Path

import httpx
import openai
import pytest
from tests.small_artifacts import publish_model

from heliostat.errors import ClusterError, ServingError
from heliostat.serving.ask import stream_answer
from heliostat.serving.config import ServeConfig
from heliostat.serving.run import deploy_model, shutdown_endpoint
from heliostat.storage import publish, staging
from heliostat.workspace import Workspace

pytestmark = pytest.mark.ray
MESSAGES = [{"role": "user", "content": "What does str.upper do? 日本"}]


@pytest.fixture(scope="module")
def serving_workspace(tmp_path_factory) -> Workspace:
    return Workspace.resolve(str(tmp_path_factory.mktemp("serving") / "workspace"))


@pytest.fixture(scope="module")
def model(serving_workspace, tiny_model_folder):
    return publish_model(serving_workspace, tiny_model_folder)


@pytest.fixture(scope="module")
def quantized(serving_workspace, tiny_openvino_folder):
    return publish_quantized(serving_workspace, tiny_openvino_folder, "quick")


def publish_quantized(workspace, folder, name, parents=()):
    key = hashlib.sha256(name.encode()).hexdigest()
    with staging(workspace.storage, workspace.path("quantized", name, key)) as publication:
        shutil.copytree(folder, publication.folder, dirs_exist_ok=True)
        return publish(publication, "quantized", key, {}, parents)


@pytest.fixture(scope="module")
def endpoint(ray_cluster, serving_workspace, quantized):
    endpoint = deploy_model(ServeConfig(port=0), quantized, serving_workspace)
    yield endpoint
    shutdown_endpoint(endpoint)
    assert read_record(endpoint)["status"] == "stopped"


@pytest.fixture(scope="module")
def client(endpoint):
    with openai.OpenAI(base_url=endpoint.base_url, api_key="none", max_retries=0) as client:
        yield client


def read_record(endpoint) -> dict:
    return json.loads(Path(endpoint.record_uri).read_text())


def engine_requests(endpoint) -> int:
    from heliostat.serving.edge.calls import call, find_controller

    versions = read_record(endpoint)["versions"]
    replicas = call(find_controller().replicas, versions[-1]["app_name"])
    return sum(stats.num_requests for _, stats in replicas)


def test_a_port_in_use_is_one_line_before_anything_starts(ray_cluster, model, serving_workspace):
    with socket.create_server(("127.0.0.1", 0)) as server:  # the second reason: another room began Serve here
        config = ServeConfig(port=server.getsockname()[1])
        with pytest.raises(ServingError, match=r"is in use; stop what listens|set port to") as caught:
            deploy_model(config, model, serving_workspace)
    assert "\n" not in str(caught.value)


def test_a_deployed_model_is_listed_and_recorded(endpoint, client, quantized):
    assert endpoint.model_id == "quick"
    assert [card.id for card in client.models.list()] == ["quick"]
    assert client.models.retrieve("quick").id == "quick"
    record = read_record(endpoint)
    assert (record["status"], record["engine"]) == ("running", "openvino")
    assert record["artifact_id"] == quantized.id
    assert record["driver"]["process"] == os.getpid()


def test_a_stream_and_a_whole_answer_are_the_same(client):
    asked = {"model": "quick", "messages": MESSAGES, "max_tokens": 20, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    stream = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert text
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert whole.usage.completion_tokens == 20
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "length"


def test_refusals_are_the_clients_error_classes(client):
    def ask(**changes):
        client.chat.completions.create(**{"model": "quick", "messages": MESSAGES} | changes)

    with pytest.raises(openai.NotFoundError) as missing:
        ask(model="none")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="context length is 512 tokens"):
        ask(messages=[{"role": "user", "content": "word " * 600}])
    with pytest.raises(openai.BadRequestError) as unserved:
        ask(logit_bias={"5": 1})
    assert unserved.value.param == "logit_bias"


def test_a_client_that_leaves_frees_the_engine(endpoint, client):
    stream = client.chat.completions.create(
        model="quick", messages=MESSAGES, max_tokens=450, temperature=0, stream=True
    )
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + 10
    while engine_requests(endpoint):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_demos_question_is_answered_and_timed(endpoint):
    answer = stream_answer(endpoint, "What does str.upper do?", max_tokens=20)
    assert "".join(answer)
    assert answer.figures["completion_tokens"] == 20
    assert answer.figures["time_to_first_token_seconds"] > 0
    assert answer.figures["tokens_per_second"] > 0


@pytest.mark.slow
def test_a_second_model_joins_and_the_first_goes_on(endpoint, client, model, serving_workspace):
    port = int(endpoint.url.rpartition(":")[2])
    second = deploy_model(ServeConfig(port=port), model, serving_workspace)
    try:
        assert second.base_url == endpoint.base_url
        assert {card.id for card in client.models.list()} == {"quick", "tiny"}
        assert "".join(stream_answer(second, "Hi", max_tokens=5))
        assert "".join(stream_answer(endpoint, "Hi", max_tokens=5))
    finally:
        shutdown_endpoint(second)
    assert httpx.get(f"{second.base_url}/models/tiny").status_code == 404
    assert client.models.retrieve("quick").id == "quick"


def test_what_holds_for_the_whole_gateway_is_not_changed_by_one_endpoint(
    endpoint, model, serving_workspace, tmp_path
):
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    with pytest.raises(ServingError, match=r"serve\.api_key_file: this cluster's gateway was started"):
        deploy_model(ServeConfig(port=0, api_key_file=str(keys)), model, serving_workspace)


def test_another_port_on_the_same_cluster_is_refused(endpoint, model, serving_workspace):
    with pytest.raises(ServingError, match=r"listen on port .* set port to"):
        deploy_model(ServeConfig(port=1), model, serving_workspace)


def test_more_than_the_cluster_has_is_refused_at_once(endpoint, model, serving_workspace):
    with pytest.raises(ClusterError, match="serve asks for"):
        deploy_model(ServeConfig(num_replicas=50), model, serving_workspace)


def test_a_model_that_does_not_load_fails_with_the_replicas_reason(
    endpoint, client, serving_workspace, tiny_openvino_folder, tmp_path
):
    folder = shutil.copytree(tiny_openvino_folder, tmp_path / "broken")
    (folder / "openvino_model.xml").write_text("<net>")
    broken = publish_quantized(serving_workspace, folder, "broken")
    with pytest.raises(ServingError, match="OpenVINO cannot load this model") as caught:
        deploy_model(ServeConfig(port=0), broken, serving_workspace)
    assert "\n" not in str(caught.value)
    assert client.models.retrieve("quick").id == "quick"
