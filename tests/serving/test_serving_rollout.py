"""Versions come up, take over and go, replicas are killed and added, and no request fails."""

import os
import signal
import time

import httpx
import pytest
from tests.serving.endpoints import REPLICA_SECONDS, versions_of, wait_for_replicas
from tests.serving.test_serving_deploy import publish_quantized
from tests.serving.under_load import MESSAGES, Load

from heliostat.config import Resources
from heliostat.control.serving import change_endpoint, endpoints_at
from heliostat.errors import ServingError
from heliostat.serving.config import OpenVINOEngineConfig, ScalingConfig, ServeConfig
from heliostat.serving.guard.config import GuardConfig, WordsRule
from heliostat.serving.run import deploy_model, shutdown_endpoint
from heliostat.storage import artifact_folder
from heliostat.workspace import Workspace

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]
CONFIG = ServeConfig(
    name="rolling",
    port=0,
    engine=OpenVINOEngineConfig(num_threads=1),
    resources=Resources(num_cpus=0.25),
    drain_timeout_seconds=20,
)


@pytest.fixture(scope="module")
def rolling_workspace(tmp_path_factory) -> Workspace:
    return Workspace.resolve(str(tmp_path_factory.mktemp("rolling") / "workspace"))


@pytest.fixture(scope="module")
def artifact(rolling_workspace, tiny_openvino_folder):
    return publish_quantized(rolling_workspace, tiny_openvino_folder, "rolling")


@pytest.fixture
def endpoint(ray_cluster, rolling_workspace, artifact):
    endpoint = deploy_model(CONFIG, artifact, rolling_workspace)
    yield endpoint
    shutdown_endpoint(endpoint)


def ask_for(endpoint, text: str) -> int:
    asked = {"model": endpoint.name, "messages": [{"role": "user", "content": text}], "max_tokens": 1}
    return httpx.post(f"{endpoint.base_url}/chat/completions", json=asked, timeout=60).status_code


def test_a_filter_a_canary_a_promotion_and_a_rollback_fail_no_request(endpoint, artifact, rolling_workspace):
    with pytest.raises(ServingError, match="no earlier version"):
        change_endpoint(endpoint.url, "rolling", "rollback", {})
    with Load(endpoint.base_url, "rolling") as load:
        load.wait_for(lambda seen: seen.versions["v1"] > 10)
        rule = WordsRule(id="forbidden", on="input", action="block", words=("abracadabra",))
        guarded = CONFIG.model_copy(update={"guard": GuardConfig(rules=(rule,))})
        deploy_model(guarded, artifact, rolling_workspace)  # the same replicas go on
        assert [version["label"] for version in versions_of(endpoint)] == ["v1"]
        deadline = time.monotonic() + 20
        while ask_for(endpoint, "abracadabra") != 400:
            assert time.monotonic() < deadline
        deploy_model(CONFIG.model_copy(update={"weight": 30}), artifact, rolling_workspace)
        assert [version["weight"] for version in versions_of(endpoint)] == [70, 30]
        load.wait_for(lambda seen: seen.versions["v2"] > 10)
        change_endpoint(endpoint.url, "rolling", "canary", {"weight": 60})
        change_endpoint(endpoint.url, "rolling", "promote", {})
        assert [version["label"] for version in versions_of(endpoint)] == ["v2"]
        before = load.outcomes.versions["v2"]
        load.wait_for(lambda seen: seen.versions["v2"] > before + 10)
        change_endpoint(endpoint.url, "rolling", "rollback", {})
        assert [(version["label"], version["weight"]) for version in versions_of(endpoint)] == [("v1", 100)]
        before = load.outcomes.versions["v1"]
        load.wait_for(lambda seen: seen.versions["v1"] > before + 10)
    assert set(load.outcomes.kinds) == {"ok"}, load.outcomes.failures


def test_replicas_come_and_go_and_are_killed_without_a_failed_request(endpoint):
    with Load(endpoint.base_url, "rolling") as load:
        load.wait_for(lambda seen: seen.kinds["ok"] > 10)
        change_endpoint(endpoint.url, "rolling", "scale", {"fewest": 2, "most": 2})
        first, second = wait_for_replicas(endpoint, 2)
        os.kill(first["process"], signal.SIGKILL)
        seen = load.outcomes.kinds["ok"]
        load.wait_for(lambda outcomes: outcomes.kinds["ok"] > seen + 20)
        there = wait_for_replicas(endpoint, 2, without=first["process"])
        assert second["process"] in [replica["process"] for replica in there]
        change_endpoint(endpoint.url, "rolling", "scale", {"fewest": 1, "most": 1})
        (last,) = wait_for_replicas(endpoint, 1)
        os.kill(last["process"], signal.SIGKILL)  # now there is none, and requests wait
        seen = load.outcomes.kinds["ok"]
        load.wait_for(lambda outcomes: outcomes.kinds["ok"] > seen + 10)
    assert set(load.outcomes.kinds) == {"ok"}, load.outcomes.failures  # cut streams go on elsewhere


def test_an_answer_whose_replica_is_killed_and_cannot_come_back_ends_in_one_line_until_it_can(
    endpoint, rolling_workspace, tiny_openvino_folder
):
    """The gateway was started by another endpoint, which waits longer."""
    quantized = publish_quantized(rolling_workspace, tiny_openvino_folder, "lost")
    config = CONFIG.model_copy(update={"name": "lost", "wait_for_replica_seconds": 4})
    lost = deploy_model(config, quantized, rolling_workspace)
    there, away = artifact_folder(quantized), artifact_folder(quantized).with_name("away")
    asked = {"model": "lost", "messages": MESSAGES, "max_tokens": 150, "temperature": 0, "stream": True}
    line = "no replica came up within 4 s; ask again later, or see 'heliostat serve status'"
    try:
        (replica,) = wait_for_replicas(lost, 1)
        with httpx.stream("POST", f"{lost.base_url}/chat/completions", json=asked, timeout=60) as answer:
            events = answer.iter_lines()
            next(events)
            there.rename(away)
            os.kill(replica["process"], signal.SIGKILL)
            killed_at = time.monotonic()
            last = [event for event in events if event][-1]
        assert line in last
        print(f"a stream ends {time.monotonic() - killed_at:.1f} s after its replica")
        refused = httpx.post(f"{lost.base_url}/chat/completions", json=asked, timeout=60)
        assert refused.status_code == 503
        assert line in refused.json()["error"]["message"]
        away.rename(there)
        mended_at = time.monotonic()
        while ask_for(lost, "light") != 200:
            assert time.monotonic() < mended_at + REPLICA_SECONDS
        print(f"answers {time.monotonic() - mended_at:.1f} s after its files are back")
    finally:
        shutdown_endpoint(lost)


def test_an_endpoint_at_rest_wakes_grows_with_its_work_and_rests_again(
    ray_cluster, rolling_workspace, artifact
):
    scaling = ScalingConfig(
        min_replicas=0,
        max_replicas=2,
        target_requests=3,
        upscale_delay_seconds=0.5,
        downscale_delay_seconds=2,
        look_back_seconds=2,
    )
    config = CONFIG.model_copy(update={"name": "resting", "autoscaling": scaling})
    endpoint = deploy_model(config, artifact, rolling_workspace)
    try:
        wait_for_replicas(endpoint, 0)
        with Load(endpoint.base_url, "resting", num_clients=8, max_tokens=200) as load:
            load.wait_for(lambda seen: seen.kinds["ok"] > 0)
            wait_for_replicas(endpoint, 2)
            seen = load.outcomes.kinds["ok"]
            load.wait_for(lambda outcomes: outcomes.kinds["ok"] > seen + 16)
        wait_for_replicas(endpoint, 0)
        assert set(load.outcomes.kinds) == {"ok"}, load.outcomes.failures
        said = next(each for each in endpoints_at(endpoint.url) if each["name"] == "resting")["decisions"]
        assert {"deployed", "woken", "requests"} == {decision["cause"] for decision in said}
        assert (said[0]["after"], said[-1]["reason"]) == (0, "a new version came up")
    finally:
        shutdown_endpoint(endpoint)
