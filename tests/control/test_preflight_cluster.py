"""Preflight and submission against a real cluster that asks for a token, and against what is none."""

import json
import sys
import time
from pathlib import Path

import pytest
from recorded_ray import answering

from heliostat.cli.app import execute
from heliostat.control.demand import read_demand
from heliostat.control.node_types import NodeType
from heliostat.control.preflight import check_before_submit, preflight
from heliostat.control.preflight_cluster import check_resources, memory_there
from heliostat.control.preflight_place import Setting
from heliostat.control.ray_api import RayApi
from heliostat.control.ray_jobs import list_jobs
from heliostat.control.ray_state import read_nodes
from heliostat.errors import ClusterError, ConfigError
from heliostat.recipe import Recipe

pytestmark = pytest.mark.ray
ROW = {"messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}]}


@pytest.fixture
def recipe(tmp_path, monkeypatch, tiny_model_folder) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HELIOSTAT_WORKSPACE", raising=False)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(ROW)}\n" * 3)
    (tmp_path / "small.yaml").write_text(
        f"name: small\nmodel: {tiny_model_folder}\n"
        f"data: {{name: rows, sources: [{tmp_path / 'rows.jsonl'}], "
        "tokenize: {max_sequence_length: 256}}\n"
        "train: {max_steps: 20, checkpoint: {every_steps: 5}}\n"
    )
    return tmp_path / "small.yaml"


@pytest.fixture
def with_token(cluster, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(cluster.token_file))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)


def statuses(found) -> dict[str, str]:
    return {check.name: check.status for check in found.checks}


def test_a_recipe_that_fits_is_valid_within_eight_seconds(cluster, recipe, with_token, capsys):
    started = time.monotonic()
    assert execute(["validate", str(recipe), "--address", cluster.address]) == 0
    assert time.monotonic() - started < 8
    printed = capsys.readouterr().out
    for said in ("a head answers at", "the cluster takes the token from", "here and on the cluster", "clock"):
        assert said in printed
    assert printed.splitlines()[-1] == f"{recipe}: valid"
    assert cluster.token_file.read_text() not in printed


@pytest.mark.slow  # a check that a busy machine keeps from its answer refuses nothing
def test_what_a_cluster_can_never_give_is_refused_and_nothing_is_sent(cluster, recipe, with_token, capsys):
    wait_until_its_room_is_known(recipe, cluster.address)
    before = len(list_jobs(cluster.address))
    asked = ["submit", str(recipe), "train.num_workers=9", "--address", cluster.address]
    assert execute(asked) == 2
    error = capsys.readouterr().err
    assert "train.num_workers: 9 workers of 1 CPU each were asked for; the cluster has room for 2" in error
    assert "ask for fewer workers" in error
    assert execute([*asked[:2], "train.use_gpu=true", *asked[3:]]) == 2
    error = capsys.readouterr().err
    assert "train.num_workers: a worker asks for 1 GPU; no node type has any" in error
    assert len(list_jobs(cluster.address)) == before


def wait_until_its_room_is_known(recipe: Path, address: str) -> None:
    """For some seconds after its start a head does not tell what its nodes have, and nothing is refused."""
    deadline = time.monotonic() + 60
    while not preflight(recipe, ("train.num_workers=9",), address=address).refusals:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_wrong_token_and_none_are_told_apart(cluster, recipe, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)  # another test's cluster in this process left it
    monkeypatch.setenv("HOME", str(tmp_path))
    loaded = Recipe.load(recipe)
    with pytest.raises(ClusterError, match="asks for a token; put it into"):
        check_before_submit(cluster.address, loaded)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "not-the-one")
    with pytest.raises(ClusterError, match="refuses the token from RAY_AUTH_TOKEN") as caught:
        check_before_submit(cluster.address, loaded)
    assert "not-the-one" not in str(caught.value)


def test_a_stopped_cluster_is_one_line_beside_the_recipes_own(recipe):
    found = preflight(recipe, address="http://127.0.0.1:1")
    assert [check.name for check in found.refusals] == ["cluster"]
    assert statuses(found)["sample"] == "ok"
    loaded = Recipe.load(recipe, ("data.sources=[gone.jsonl]",))
    with pytest.raises(ConfigError) as caught:
        check_before_submit("http://127.0.0.1:1", loaded)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "gone.jsonl" in lines[0]
    assert "no Ray dashboard answers" in lines[1]


def test_a_network_that_swallows_everything_does_not_keep_anybody(recipe):
    started = time.monotonic()
    found = preflight(recipe, address="http://192.0.2.99:8265")
    assert time.monotonic() - started < 8
    assert statuses(found)["cluster"] in ("refused", "warning")


def test_known_limits_of_node_types_decide_what_can_be(recipe):
    """Against recorded answers of a cluster with an autoscaler."""
    kinds = (NodeType(name="train", resources={"CPU": 2.0, "GPU": 1.0}, most=4),)
    with answering({}) as address, RayApi(address) as api:
        known, unknown = read_demand(api, kinds), read_demand(api)
        nodes = read_nodes(api)
    eight = Recipe.load(recipe, ("train.num_workers=8", "train.use_gpu=true", "train.cpus_per_worker=2"))
    (refusal,) = check_resources(eight, known)
    assert refusal.status == "refused"
    assert "8 workers of 2 CPUs and 1 GPU each were asked for" in refusal.says
    (doubt,) = check_resources(eight, unknown)
    assert doubt.status == "warning"
    assert "Ray does not tell what the autoscaler may start" in doubt.says
    huge = Recipe.load(recipe, ("train.micro_batch_size=2000000",))
    (memory,) = memory_there(Setting.of(huge, None, address), huge.trainings[0], nodes, grows=False)
    assert memory.status == "refused"
    assert memory_there(Setting.of(eight, None, address), eight.trainings[0], [], grows=True) == []


@pytest.mark.slow
def test_the_doctor_looks_at_every_node_from_inside(cluster, tmp_path, with_token, capsys):
    asked = ["doctor", "--address", cluster.address, "--workspace", str(tmp_path / "ws"), "--deep", "--json"]
    execute(asked)
    found = json.loads(capsys.readouterr().out)["checks"]
    names = {check["name"]: check for check in found if check["status"] == "ok"}
    assert names["shared storage"]["facts"] == {"nodes": 1}
    assert "versions there" in names
    assert "1 node(s) with 2 CPUs" in names["nodes"]["says"]
    assert not [check for check in found if check["status"] == "refused"]
    assert list((tmp_path / "ws").glob(".heliostat-doctor-*")) == []
    assert cluster.token_file.read_text() not in json.dumps(found)


@pytest.mark.slow
def test_a_workspace_that_nodes_cannot_write_is_found_from_inside(cluster, with_token, capsys):
    asked = ["doctor", "--address", cluster.address, "--workspace", "/proc/heliostat", "--deep"]
    assert execute(asked) == 1
    printed = capsys.readouterr().out
    assert "cannot write to /proc/heliostat" in printed
    assert "mounted on every node at the same path" in printed


def test_the_doctor_without_the_right_token_says_so_and_goes_on(cluster, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "not-the-one")
    assert execute(["doctor", "--address", cluster.address, "--workspace", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "refuses the token from RAY_AUTH_TOKEN" in printed
    assert "not-the-one" not in printed
    assert "to mend" in printed.splitlines()[-1]


def test_deep_needs_an_address(capsys):
    assert execute(["doctor", "--deep"]) == 2
    assert "give its --address" in capsys.readouterr().err
