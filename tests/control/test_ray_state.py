"""What the readers make of real answers of Ray's, and of those of an older, newer or broken server."""

import json

import pytest
from recorded_ray import answering, recorded, ways_to_age

from heliostat.control.cluster_status import from_text
from heliostat.control.node_types import NodeType, told_node_types
from heliostat.control.ray_api import RayApi, Unreachable
from heliostat.control.ray_state import (
    Demand,
    ServeState,
    read_demand,
    read_nodes,
    read_serve,
    refuse_impossible,
    who_holds,
)
from heliostat.errors import ClusterError

READERS = {
    read_nodes: ("nodes",),
    read_demand: ("cluster_status", "events"),
    read_serve: ("serve",),
    who_holds: ("actors", "tasks", "placement_groups", "jobs"),
}
LIMITS = (
    NodeType(name="ray.head.default", resources={"CPU": 1}, fewest=0, most=0),
    NodeType(name="train", resources={"CPU": 1}, fewest=0, most=4),
    NodeType(name="gpu", resources={"CPU": 1, "GPU": 4}, fewest=0, most=2),
)


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


@pytest.fixture
def answers():
    return {}


@pytest.fixture
def api(answers):
    with answering(answers) as address, RayApi(address) as api:
        yield api


def test_nodes(api):
    head, *workers = read_nodes(api)
    assert (head.is_head, head.group, head.alive, head.cpus_total, head.cpus_used) == (
        True,
        "head",
        True,
        1,
        1,
    )
    assert [node.group for node in workers] == ["train", "gpu", "train", "train", "train"]
    gpu = workers[1]
    assert (gpu.gpus_total, gpu.gpus_used, gpu.gpus) == (4, 2, ())
    assert head.memory_total_bytes == 25276502016
    assert head.memory_used_bytes < head.memory_total_bytes
    assert head.disk_used_bytes < head.disk_total_bytes
    assert head.started_at.year == 2026
    assert head.ended_at is None


def test_a_dead_node_says_why_and_shows_no_old_figures(api, answers):
    answers["nodes"] = recorded("nodes_dead")
    dead = [node for node in read_nodes(api) if not node.alive]
    killed = next(node for node in dead if node.state_message.startswith("Unexpected termination"))
    assert killed.state == "DEAD"
    assert killed.ended_at.year == 2026
    assert killed.started_at is None  # Ray forgets it
    assert (killed.cpus_used, killed.cpu_percent, killed.memory_used_bytes, killed.gpus) == (
        None,
        None,
        None,
        (),
    )


def test_gpus_in_bytes_and_without_what_the_driver_hides(api, answers):
    answers["nodes"] = recorded("nodes")
    seen = {
        "index": 0,
        "name": "H200",
        "uuid": "x",
        "utilizationGpu": 41,
        "memoryUsed": 1024,
        "memoryTotal": 143771,
    }
    hidden = {"index": 1, "name": "MIG", "utilizationGpu": None, "memoryUsed": None}
    answers["nodes"]["data"]["summary"][0]["gpus"] = [seen, hidden]
    first, second = read_nodes(api)[0].gpus
    assert (first.utilisation, first.memory_used_bytes) == (41, 2**30)
    assert (second.name, second.utilisation, second.memory_used_bytes) == ("MIG", None, None)


def test_nodes_that_share_an_address_do_not_show_each_others_use(api, answers):
    answers["nodes"] = recorded("nodes")
    answers["nodes"]["data"]["nodeLogicalResources"] = {"192.0.2.2": "1.0/1.0 CPU"}
    assert {node.cpus_used for node in read_nodes(api)} == {None}
    answers["nodes"]["data"]["summary"] = answers["nodes"]["data"]["summary"][:1]
    assert read_nodes(api)[0].cpus_used == 1


def test_what_waits_and_why(api):
    demand = read_demand(api)
    told = {each.asked: (each.count, each.reason, each.why) for each in demand.waiting}
    assert demand.autoscaler
    assert told["1 CPU and 8 GPUs"] == (
        1,
        "impossible",
        "asks for 8 GPUs; the largest node type has 4 GPUs; it will never start",
    )
    assert told["64 CPUs (PACK)"][1:] == (
        "impossible",
        "asks for 64 CPUs; the largest node type has 1 CPU; it will never start",
    )
    count, reason, why = told["1 CPU"]
    assert (count, reason) == (2, "busy")
    assert why == "what is there is in use: 6 of 6 CPUs; the autoscaler adds a node if it may"
    assert told["2 x 1 CPU (STRICT_SPREAD)"][1] == "busy"
    assert demand.used["GPU"].used == 2
    assert {kind.name: kind.running for kind in demand.node_types} == {
        "ray.head.default": 1,
        "train": 4,
        "gpu": 1,
    }


def test_limits_of_node_types_make_the_reason_exact(api):
    demand = read_demand(api, LIMITS)
    one = next(each for each in demand.waiting if each.bundles == ({"CPU": 1.0},))
    assert one.reason == "busy"  # a second gpu node may still come
    full = read_demand(api, [*LIMITS[:2], LIMITS[2].model_copy(update={"most": 1})])
    one = next(each for each in full.waiting if each.bundles == ({"CPU": 1.0},))
    assert one.reason == "full"
    assert "4 of 4 train" in one.why


def test_nodes_that_start_are_counted_by_type(api, answers):
    answers["cluster_status"] = recorded("cluster_status")
    report = answers["cluster_status"]["data"]["clusterStatus"]["autoscalerReport"]
    report["pendingLaunches"], report["pendingNodes"] = {"train": 2}, [["10.0.0.7", "train", "setting-up"]]
    demand = read_demand(api)
    one = next(each for each in demand.waiting if each.bundles == ({"CPU": 1.0},))
    assert (one.reason, one.why) == ("starting", "3 nodes starting: 3 of type train")


def test_the_second_autoscalers_page_of_text_says_the_same(api, answers):
    answers["cluster_status"] = {"data": {"clusterStatus": None, "autoscalingError": None}}
    demand = read_demand(api, LIMITS)
    assert demand.autoscaler
    told = {each.asked: (each.count, each.reason) for each in demand.waiting}
    assert told == {
        "1 CPU": (4, "starting"),
        "1 CPU and 8 GPUs": (1, "impossible"),
        "2 x 1 CPU (STRICT_SPREAD)": (1, "starting"),
        "64 CPUs (PACK)": (1, "impossible"),
    }
    assert {kind.name: kind.starting for kind in demand.node_types if kind.starting} == {"train": 2, "gpu": 1}
    assert (demand.used["GPU"].used, demand.used["GPU"].total) == (2, 4)
    assert demand.used["memory"].total == pytest.approx(89.53 * 2**30)


def test_a_page_of_text_with_any_line_missing_is_no_error():
    page = recorded("cluster_status_text")["data"]["clusterStatus"]
    lines = page.splitlines()
    for number in range(len(lines)):
        from_text("\n".join(lines[:number] + lines[number + 1 :]))
        from_text("\n".join(lines[:number]) + lines[number][::-1])
    failed = from_text(page.replace(" (no failures)", " gpu: LaunchFailed (latest_attempt: 05:03:19)"))
    assert failed.failures == [("gpu", "LaunchFailed (latest_attempt: 05:03:19)", None)]


def test_node_types_told_by_the_environment(monkeypatch):
    monkeypatch.setenv("HELIOSTAT_NODE_TYPES", '{"train": {"resources": {"CPU": 8}, "most": 4}, "odd": 3}')
    train, odd = told_node_types()
    assert (train.name, train.resources, train.most) == ("train", {"CPU": 8}, 4)
    assert (odd.resources, odd.most) == ({}, None)
    monkeypatch.setenv("HELIOSTAT_NODE_TYPES", "not JSON")
    assert told_node_types() == ()


def test_a_failed_launch_says_why(api, answers):
    answers["cluster_status"] = recorded("cluster_status")
    report = answers["cluster_status"]["data"]["clusterStatus"]["autoscalerReport"]
    report["nodeAvailabilitySummary"]["nodeAvailabilities"]["gpu"] |= {
        "isAvailable": False,
        "unavailableNodeInformation": {"category": "QuotaExceeded", "description": "no p5 left in this zone"},
    }
    demand = read_demand(api)
    assert demand.failures[0].node_type == "gpu"
    assert demand.failures[0].reason == "QuotaExceeded: no p5 left in this zone"


def test_what_can_never_run_is_refused_in_words(api):
    demand = read_demand(api, LIMITS)
    assert refuse_impossible(demand, {"CPU": 1}, num_workers=4) is None
    assert refuse_impossible(demand, {"CPU": 1, "GPU": 2}, num_workers=2) is None
    too_big = refuse_impossible(demand, {"CPU": 1, "GPU": 8})
    assert too_big.startswith("a worker asks for 8 GPUs; the largest node type has 4 GPUs; ask for less")
    too_many = refuse_impossible(demand, {"CPU": 1, "GPU": 1}, num_workers=3)
    assert "the cluster has room for 2, even with all its nodes started" in too_many


def test_what_the_autoscaler_may_start_is_not_guessed(api):
    """Without the limits only what the autoscaler itself has refused is refused."""
    demand = read_demand(api)
    assert refuse_impossible(demand, {"TPU": 4}) is None
    assert refuse_impossible(demand, {"CPU": 1, "GPU": 8}) is not None


def test_serve(api):
    serve = read_serve(api)
    assert serve.running
    (application,) = serve.applications
    (deployment,) = application.deployments
    assert (application.route, deployment.name, deployment.replicas_now) == ("/one", "echo", 0)
    assert (deployment.replicas_target, deployment.fewest_replicas, deployment.most_replicas) == (1, 1, 2)
    assert deployment.why == "1 of 1 replicas are not up yet, 1 of them waiting for room on a node"


def test_serves_decisions_are_the_latest_first(api, answers):
    answers["serve"] = recorded("serve")
    decisions = [
        {"timestamp_s": 1.0, "reason": "load", "prev_num_replicas": 1, "curr_num_replicas": 2},
        {"timestamp_s": 2.0, "reason": "still", "prev_num_replicas": 2, "curr_num_replicas": 2},
    ]
    echo = answers["serve"]["applications"]["one"]["deployments"]["echo"]
    echo |= {
        "autoscaling_detail": {"scaling_status": "STABLE", "decisions": decisions},
        "replicas": [{"replica_id": "a", "state": "RUNNING", "node_id": "n"}],
    }
    (deployment,) = read_serve(api).applications[0].deployments
    assert [each.reason for each in deployment.decisions] == ["still", "load"]
    assert deployment.why == "scaled from 1 to 2: load"


def test_serve_that_was_never_started(api, answers):
    answers["serve"] = {"controller_info": {}, "applications": {}, "proxies": {}}
    assert read_serve(api) == ServeState(running=False, applications=())


def test_who_holds_what(api):
    holders = who_holds(api)
    held = [each for each in holders if not each.waits]
    assert {each.job_id for each in held} == {"heliostat-drive-1"}
    gpus = [(each.name, each.gpus, each.kind) for each in held if each.gpus]
    assert gpus == [("gpu2", 2, "actor")]
    assert sum(each.cpus for each in held) == 6
    waiting = {each.name: each for each in holders if each.waits}
    assert {"big", "pg-small", "pg-big", "work"} <= set(waiting)
    demand = read_demand(api)
    assert demand.why(waiting["pg-small"].bundles).startswith("what is there is in use")
    assert "8 GPUs" in demand.why([waiting["big"].resources])


def test_the_readers_records_are_json(api):
    for node in read_nodes(api):
        assert type(node).model_validate_json(node.model_dump_json()) == node
    demand = read_demand(api)
    assert Demand.model_validate_json(demand.model_dump_json()) == demand


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("reader", "name"), [(each, name) for each, names in READERS.items() for name in names]
)
def test_other_fields_than_expected_are_no_error(api, answers, reader, name):
    """Nothing but a ClusterError may come of them; here not even that, for the answer is JSON."""
    for what, answer in ways_to_age(recorded(name)):
        answers[name] = answer
        try:
            reader(api)
        except ClusterError:
            pass
        except Exception as error:
            raise AssertionError(f"{name} with {what}") from error


@pytest.mark.parametrize("reader", READERS, ids=lambda each: each.__name__)
@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        ((401, "Unauthorized"), ClusterError, "asks for a token"),
        ((403, "Forbidden"), ClusterError, "refuses the token"),
        ((500, "Traceback\nValueError: boom"), Unreachable, "HTTP 500: ValueError: boom"),
        ((503, ""), Unreachable, "HTTP 503"),
        ((404, "404: Not Found"), ClusterError, "HTTP 404"),
        ((200, "<html>"), ClusterError, "is not JSON"),
    ],
)
def test_a_refusal_is_a_cluster_error_in_one_line(api, answers, reader, answer, error, words):
    answers |= dict.fromkeys(READERS[reader], answer)
    with pytest.raises(error, match=words) as caught:
        reader(api)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "body", [None, [], {}, 3, "text", {"data": None}, {"data": {"result": {"result": 1}}}]
)
def test_json_of_another_shape_is_read_as_nothing(api, answers, body):
    for reader, names in READERS.items():
        answers |= dict.fromkeys(names, (200, json.dumps(body)))
        reader(api)


def test_nobody_there():
    with RayApi("http://127.0.0.1:1") as api:
        for reader in READERS:
            with pytest.raises(Unreachable):
                reader(api)
