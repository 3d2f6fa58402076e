"""Nodes that come when work waits and go when it is done, on a real autoscaler; and what can never come."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.control.own_cluster import own_cluster

from heliostat.control.local_cluster import LocalCluster
from heliostat.control.ray_api import RayApi
from heliostat.control.ray_jobs import submit_job
from heliostat.control.ray_state import read_demand, read_nodes, refuse_impossible, who_holds
from heliostat.control.submissions import Submission

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.heavy]
WORKERS = 4


@pytest.fixture(scope="module")
def growing(tmp_path_factory) -> Iterator[LocalCluster]:
    """A head that computes nothing, and up to four nodes of one CPU that go after ten idle seconds."""
    folder = tmp_path_factory.mktemp("growing")
    with own_cluster(folder, WORKERS + 1, True, port=22000, head_cpus=0, idle_seconds=10) as cluster:
        yield cluster


@pytest.fixture
def recipe(tmp_path, tiny_model_folder) -> Path:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {number} and {number}?"},
                {"role": "assistant", "content": f"It is {2 * number}."},
            ]
        }
        for number in range(80)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "sums.yaml"
    path.write_text(
        f"name: sums\nmodel: {tiny_model_folder}\n"
        f"data:\n  name: sums\n  sources:\n    - kind: jsonl\n      path: {tmp_path / 'rows.jsonl'}\n"
        "  tokenize: {max_sequence_length: 32}\n"
        f"train:\n  name: sums\n  adapter: {{kind: full}}\n  num_workers: {WORKERS}\n"
        "  micro_batch_size: 1\n  max_steps: 3\n"
    )
    return path


def train_nodes(api: RayApi) -> int:
    return sum(node.alive and node.group == "train" for node in read_nodes(api))


@pytest.mark.timeout(420)
def test_a_training_of_four_workers_scales_the_group_from_nothing_and_back(growing, recipe):
    counts, reasons, holders = [], set(), set()
    with RayApi(growing.address) as api:
        assert train_nodes(api) == 0
        demand = read_demand(api)
        assert demand.autoscaler
        assert refuse_impossible(demand, {"CPU": 1}, WORKERS) is None
        job = submit_job(growing.address, Submission(recipe, (), growing.workspace))
        deadline = time.monotonic() + 300
        while (status := api.job(job)["status"]) in ("PENDING", "RUNNING") or train_nodes(api):
            assert time.monotonic() < deadline, api.logs(job)[-3000:]
            counts.append(train_nodes(api))
            reasons |= {each.reason for each in read_demand(api).waiting}
            holders |= {(each.kind, each.job_id) for each in who_holds(api) if not each.waits and each.cpus}
            time.sleep(0.5)
        assert status == "SUCCEEDED", api.logs(job)[-3000:]
        assert (counts[0], max(counts), train_nodes(api)) == (0, WORKERS, 0)
        assert "starting" in reasons
        assert "impossible" not in reasons
        assert ("placement group", job) in holders
        went = [node for node in read_nodes(api) if not node.alive]
        assert len(went) >= WORKERS
        assert not [node.state_message for node in went if "health check failed" in node.state_message]


def test_what_no_group_can_take_is_refused_in_words_within_ten_seconds(growing):
    started = time.monotonic()
    with RayApi(growing.address) as api:
        demand = read_demand(api)
        too_big = refuse_impossible(demand, {"CPU": 1, "GPU": 8})
        too_many = refuse_impossible(demand, {"CPU": 1}, num_workers=WORKERS + 1)
    assert time.monotonic() - started < 10
    assert (
        too_big
        == "a worker asks for 8 GPUs; no node type has any; ask for less, or add a node type that has it"
    )
    assert "the cluster has room for 4, even with all its nodes started" in too_many


def test_what_was_submitted_all_the_same_is_said_to_wait_for_ever(growing, tmp_path):
    script = tmp_path / "ask.py"
    script.write_text("import ray\nray.init()\nray.get(ray.remote(num_gpus=8)(lambda: 0).remote())\n")
    with RayApi(growing.address) as api:
        job = api.submit({"entrypoint": f"{sys.executable} {script}", "submission_id": "asks-for-eight"})
        deadline = time.monotonic() + 60
        while not (waiting := read_demand(api).waiting):
            assert time.monotonic() < deadline, api.logs(job)
            time.sleep(0.2)
        seen = time.monotonic()
        assert waiting[0].reason == "impossible"
        assert waiting[0].why == "asks for 8 GPUs; no node type has any; it will never start"
        while not (asking := [each for each in who_holds(api) if each.waits and each.job_id == job]):
            assert time.monotonic() < seen + 10
            time.sleep(0.2)
        assert read_demand(api).why([asking[0].resources]) == waiting[0].why
        api.stop(job)
