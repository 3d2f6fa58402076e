"""Each rule on its worst input: what is told, with which words and since when, and when nothing is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from heliostat.control.alert_rules import (
    DiskUse,
    cluster_alerts,
    disk_alerts,
    endpoint_alerts,
    job_alerts,
    launch_alerts,
    node_alerts,
    parted,
    pending_alerts,
)
from heliostat.control.demand import Demand, LaunchFailure, Waiting
from heliostat.control.endpoint_figures import Figures
from heliostat.control.endpoint_state import EndpointState
from heliostat.control.holders import Holder
from heliostat.control.job_records import JobRecord
from heliostat.control.nodes import Node
from heliostat.control.readings import Ok, Unavailable
from heliostat.control.run_alerts import RunFacts, run_alerts
from heliostat.control.series import Tail
from heliostat.records import Provenance, Run
from heliostat.training.watchers import Finding as Note

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
BEGAN = NOW - timedelta(hours=1)
DAY = 24 * 3600.0
GIB = 2**30
IDLE = Demand(at=None, autoscaler=False, waiting=(), node_types=(), used={}, failures=(), events=(), error="")


def a_run(**changes) -> Run:
    values = {
        "id": "train-1", "stage": "train", "status": "running", "fingerprint": "f",
        "config": {"name": "tuned", "max_steps": 1000}, "inputs": (), "started_at": BEGAN,
        "provenance": Provenance.collect(),
    }  # fmt: skip
    return Run(**values | changes)


def facts(run: Run, losses=(), notes=(), first=1, began: datetime = BEGAN) -> RunFacts:
    """A step a second since `began`."""
    steps = np.arange(first, first + len(losses))
    times = began.timestamp() + np.arange(len(losses), dtype=float)
    return RunFacts(run, Tail(steps, np.array(losses, dtype=float), times), notes)


def told(found) -> list[str]:
    return [each.rule for each in found]


def only(found):
    assert len(found) == 1, found
    return found[0]


def soon(losses) -> datetime:
    """A moment after so many steps."""
    return BEGAN + timedelta(seconds=len(losses))


def test_a_loss_that_is_no_number_is_told_since_the_step_at_which_that_began():
    losses = [3.0, float("nan"), 3.0, 2.5, float("nan"), float("inf")]
    found = only(run_alerts(facts(a_run(), losses), soon(losses)))
    assert found.rule == "NanLoss"
    assert found.since == BEGAN + timedelta(seconds=4)
    assert "from step 5 on" in found.text
    assert "learning_rate" in found.mend


def test_a_loss_that_was_no_number_in_an_earlier_attempt_is_not_told_of_this_one():
    again = a_run(started_at=NOW, attempts=2)
    assert run_alerts(facts(again, [3.0, float("nan")]), NOW) == []


def test_a_run_that_its_watcher_stopped_for_a_nan_says_so_in_the_watchers_words():
    note = Note("not_finite", 2, "loss at step 2: nan; lower learning_rate", "stop")
    ended = a_run(status="stopped", error="loss at step 2: nan; ...", finished_at=NOW)
    found = only(run_alerts(facts(ended, [3.0, float("nan")], [note]), NOW))
    assert (found.rule, found.mend) == ("NanLoss", "lower learning_rate")
    assert found.text == "tuned (train-1): loss at step 2: nan"


def test_a_worker_that_died_of_a_nan_is_told_once_and_not_as_a_failure_too():
    error = "step 7: the loss is not finite, in document(s) 3; lower learning_rate"
    ended = a_run(status="failed", error=error, finished_at=NOW)
    assert told(run_alerts(facts(ended, [3.0] * 6), NOW)) == ["NanLoss"]


def test_a_run_that_was_told_to_stop_is_no_alert():
    stopped = a_run(status="stopped", error="stopped as told; step 6 of 9 is saved", finished_at=NOW)
    assert run_alerts(facts(stopped, [3.0] * 6), NOW) == []


SPIKE = Note("loss_spike", 61, "loss 40 at step 61 is far above the median; look at its documents", "warn")


def test_a_spike_is_told_while_the_loss_is_up_and_not_when_it_has_come_down():
    calm = [3.0 + 0.01 * (step % 5) for step in range(60)]
    up = [*calm, 40.0, 40.0, 40.0]
    found = only(run_alerts(facts(a_run(), up, [SPIKE]), soon(up)))
    assert (found.rule, found.since) == ("LossSpike", BEGAN + timedelta(seconds=60))
    assert found.mend == "look at its documents"
    down = [*up, *calm[:9]]
    assert told(run_alerts(facts(a_run(), down, [SPIKE]), soon(down))) == ["LossSpike"]
    down += [3.0]
    assert run_alerts(facts(a_run(), down, [SPIKE]), soon(down)) == []


def test_a_spike_whose_step_is_long_past_or_was_made_again_is_not_told():
    losses = [3.0] * 300
    assert run_alerts(facts(a_run(), losses, [SPIKE], first=5000), soon(losses)) == []


def test_a_stall_that_the_run_noted_is_told_until_the_next_step():
    note = Note("stall", 3, "no step for 301 s, after step 3: a worker hangs; look at the stacks", "warn")
    found = only(run_alerts(facts(a_run(), [3.0] * 3, [note]), BEGAN + timedelta(seconds=310)))
    assert (found.rule, found.since) == ("TrainingStalls", BEGAN + timedelta(seconds=2))
    assert found.mend == "look at the stacks"
    assert run_alerts(facts(a_run(), [3.0] * 4, [note]), BEGAN + timedelta(seconds=310)) == []


def test_silence_means_nothing_where_a_runs_files_come_at_its_end():
    silent = replace(facts(a_run()), written_live=False)
    assert told(run_alerts(facts(a_run()), BEGAN + timedelta(hours=3))) == ["TrainingStalls"]
    assert run_alerts(silent, BEGAN + timedelta(hours=3)) == []


@pytest.mark.parametrize(("silent_seconds", "rules"), [(350, []), (370, ["TrainingStalls"])])
def test_a_run_whose_driver_is_gone_is_found_a_minute_after_it_would_have_said_so(silent_seconds, rules):
    losses = [3.0] * 30
    now = BEGAN + timedelta(seconds=29 + silent_seconds)
    assert told(run_alerts(facts(a_run(), losses), now)) == rules


def test_a_run_that_never_made_a_step_has_the_time_to_load_its_model():
    assert run_alerts(facts(a_run()), BEGAN + timedelta(seconds=1800)) == []
    found = only(run_alerts(facts(a_run()), BEGAN + timedelta(seconds=1870)))
    assert "before the first step" in found.text


def test_a_run_whose_steps_are_made_may_take_its_time_to_publish():
    done = a_run(config={"max_steps": 30})
    assert run_alerts(facts(done, [3.0] * 30), BEGAN + timedelta(seconds=1000)) == []


def test_a_run_that_nobody_has_waited_for_in_a_week_is_not_told_for_ever():
    assert run_alerts(facts(a_run(), [3.0]), BEGAN + timedelta(days=8)) == []


def test_rows_without_a_time_are_no_fault():
    tail = Tail(np.array([1, 2]), np.array([3.0, np.nan]), np.array([np.nan, np.nan]))
    assert told(run_alerts(RunFacts(a_run(), tail, ()), BEGAN)) == ["NanLoss"]


def test_a_worker_without_memory_is_told_with_the_change_that_helps():
    error = "worker 0 ran out of memory (CUDA out of memory); run again with micro_batch_size=2"
    found = only(run_alerts(facts(a_run(status="failed", error=error, finished_at=NOW)), NOW))
    assert (found.rule, found.since) == ("OutOfMemory", NOW)
    assert found.mend == "run again with micro_batch_size=2"


@pytest.mark.parametrize(("stage", "rule"), [("train", "TrainingFailed"), ("data", "StageFailed")])
def test_a_run_that_failed_is_told_also_when_it_said_nothing(stage, rule):
    failed = a_run(stage=stage, status="failed", error=None, finished_at=NOW)
    assert "no reason told" in only(run_alerts(facts(failed), NOW)).text
    assert told(run_alerts(facts(failed), NOW)) == [rule]


def test_a_trial_may_fail_but_not_stand_still():
    trial = a_run(parent="tune-1")
    failed = trial.model_copy(update={"status": "failed", "error": "ran out of memory", "finished_at": NOW})
    assert run_alerts(facts(failed, [float("nan")]), NOW) == []
    assert told(run_alerts(facts(trial, [3.0] * 30), NOW)) == ["TrainingStalls"]


def a_job(**changes) -> JobRecord:
    values = {
        "id": "job-1", "name": "clean", "project": "", "user": "ada", "state": "FAILED", "created_at": BEGAN,
        "changed_at": NOW, "ended_at": NOW,
    }  # fmt: skip
    return JobRecord(**values | changes)


def test_a_job_that_failed_is_told_with_its_last_words_and_the_way_back():
    found = only(job_alerts([a_job(reason="exit code 1")], (), (), {"job-1": "the file is gone"}))
    assert (found.rule, found.subject, found.since) == ("JobFailed", "job/job-1", NOW)
    assert "the file is gone" in found.text
    assert "heliostat jobs retry job-1" in found.mend


def test_a_job_killed_for_want_of_memory_is_out_of_memory():
    reason = "killed by the system, most often for want of memory: see the node's memory at that time"
    assert only(job_alerts([a_job(reason=reason)], (), (), {})).rule == "OutOfMemory"


def test_a_job_that_was_handed_in_again_or_whose_run_tells_it_is_not_told():
    assert job_alerts([a_job()], {"job-1"}, (), {}) == []
    assert job_alerts([a_job()], (), {"job-1"}, {}) == []


def waiting(reason="busy", why="everything is in use: 2 of 2 CPU") -> Demand:
    bundles = ({"CPU": 4.0},)
    each = Waiting(kind="task or actor", bundles=bundles, strategy="", count=2, reason=reason, why=why)
    return IDLE.model_copy(update={"waiting": (each,)})


def test_what_waits_long_is_told_of_the_job_that_waits_in_the_words_of_the_demand():
    holder = Holder(
        kind="actor", id="a", name="worker", job_id="job-1", node_id="", state="PENDING", cpus=4, gpus=0,
        resources={"CPU": 4.0},
    )  # fmt: skip
    found = only(pending_alerts(waiting(), [holder], [a_job(state="PENDING", reason="Ray's own words")]))
    assert (found.rule, found.subject, found.after_seconds) == ("WorkPendsForLong", "job/job-1", 900)
    assert "everything is in use: 2 of 2 CPU" in found.text


def test_a_job_that_pends_has_waited_equally_long_whoever_says_so():
    holder = Holder(
        kind="actor", id="a", name="driver", job_id="job-1", node_id="", state="PENDING", cpus=4, gpus=0,
        resources={"CPU": 4.0},
    )  # fmt: skip
    job = a_job(state="PENDING", changed_at=BEGAN)
    assert [only(pending_alerts(each, [holder], [job])).since for each in (waiting(), IDLE)] == [BEGAN] * 2


def test_what_can_never_start_is_told_after_a_minute_also_where_no_job_is_known():
    found = only(pending_alerts(waiting("impossible", "no node has 4 CPU; it will never start"), [], []))
    assert (found.subject, found.after_seconds) == ("cluster/task or actor of 4 CPUs", 60)
    assert "it will never start" in found.text
    assert "ask for less" in found.mend


def test_a_request_that_a_training_keeps_up_is_no_wait():
    kept_up = waiting().waiting[0].model_copy(update={"kind": "request"})
    assert pending_alerts(IDLE.model_copy(update={"waiting": (kept_up,)}), [], []) == []


def test_a_job_that_pends_is_told_where_the_demand_says_nothing():
    found = only(pending_alerts(IDLE, [], [a_job(state="PENDING", changed_at=BEGAN)]))
    assert (found.subject, found.since) == ("job/job-1", BEGAN)


def a_node(**changes) -> Node:
    values = dict.fromkeys(Node.model_fields) | {
        "id": "n1", "name": "host-1", "ip": "10.0.0.1", "state": "ALIVE", "alive": True, "is_head": False,
        "group": "", "labels": {}, "resources": {}, "gpus": (), "state_message": "",
    }  # fmt: skip
    return Node(**values | changes)


LOST = a_node(
    alive=False, state="DEAD", ended_at=NOW, group="train",
    state_message="Unexpected termination: health check failed due to missing too many heartbeats",
)  # fmt: skip


def test_a_lost_node_is_told_until_one_of_its_group_comes_up():
    found = only(node_alerts([LOST], NOW, DAY))
    assert (found.rule, found.subject, found.since) == ("NodeDown", "node/n1", NOW)
    assert "missing too many heartbeats" in found.text
    older = a_node(id="n2", group="train", started_at=BEGAN)
    assert told(node_alerts([LOST, older], NOW, DAY)) == ["NodeDown"]
    assert node_alerts([LOST, older.model_copy(update={"started_at": NOW})], NOW, DAY) == []
    assert node_alerts([LOST], NOW + timedelta(days=2), DAY) == []


@pytest.mark.parametrize(
    "words", ["Expected termination: Terminated by autoscaler.", "Terminated due to idle (no Ray activity)."]
)
def test_a_node_that_was_sent_away_is_no_alert(words):
    assert node_alerts([LOST.model_copy(update={"state_message": words})], NOW, DAY) == []


def test_nodes_that_could_not_be_started_are_told_once_a_type():
    failures = [LaunchFailure(node_type="gpu", reason=why, at=None) for why in ("quota", "spot")]
    found = only(launch_alerts(IDLE.model_copy(update={"failures": tuple(failures)})))
    assert (found.rule, found.subject) == ("NodesFail", "nodes/gpu")
    assert "quota" in found.text


def full(share: float, name: str = "host-1") -> Node:
    used = int(share * 100 * GIB)
    return a_node(name=name, disk_used_bytes=used, disk_total_bytes=100 * GIB)


def test_a_full_disk_is_told_once_a_machine_and_not_again_as_the_workspaces():
    nodes = [full(0.95), full(0.95), full(0.5, "host-2"), a_node(name="untold")]
    found = only(disk_alerts(nodes, None))
    assert (found.rule, found.subject, found.opens) == ("DiskAlmostFull", "disk/host-1", True)
    assert "95% full, 5 GiB are free" in found.text
    own = DiskUse(name="/data", used_bytes=95 * GIB, total_bytes=100 * GIB)
    assert only(disk_alerts(nodes, own)).subject == "disk/workspace"


def test_another_machines_disk_is_told_also_where_it_is_as_large_as_the_workspaces():
    own = DiskUse(name="/data", used_bytes=20 * GIB, total_bytes=100 * GIB)
    assert only(disk_alerts([full(0.2), full(0.95, "host-2")], own)).subject == "disk/host-2"


def test_what_is_reserved_for_root_counts_as_used():
    own = DiskUse(name="/data", used_bytes=90 * GIB, total_bytes=100 * GIB, reserved_bytes=5 * GIB)
    assert "95% full, 5 GiB are free" in only(disk_alerts([], own)).text


@pytest.mark.parametrize(("share", "opens"), [(0.91, [True]), (0.89, [False]), (0.86, [])])
def test_a_disk_at_the_edge_keeps_an_alert_and_opens_none(share, opens):
    assert [each.opens for each in disk_alerts([full(share)], None)] == opens


def test_a_disk_of_no_size_is_no_fault():
    assert disk_alerts([], DiskUse(name="/proc", used_bytes=0, total_bytes=0)) == []


def an_endpoint(status="serving", reason="", **figures) -> EndpointState:
    return EndpointState(
        name="chat", status=status, reason=reason, url="http://h:1", base_url="http://h:1/v1", model_id="m",
        needs_key=False, started_at=BEGAN, num_gateways=1, note="", versions=(), figures=Figures(**figures),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("state", "rule", "seconds"),
    [
        (an_endpoint("away", "the gateway does not answer: refused"), "EndpointDown", 60),
        (an_endpoint("missing", "http://h:1 answers and has no such endpoint"), "EndpointDown", 60),
        (an_endpoint("gone", "whoever served it has ended without a word"), "EndpointDown", 0),
        (an_endpoint("locked", "no key; put a key of scope admin into X"), "EndpointLocked", 60),
        (an_endpoint("starting", "its first replica is not up yet"), "NoReplica", 900),
        (an_endpoint(error_share=0.06), "EndpointErrors", 300),
        (an_endpoint(p95_seconds=61), "EndpointSlow", 600),
        (an_endpoint(first_token_p95_seconds=5.1), "FirstTokenSlow", 600),
    ],
)
def test_an_endpoint_that_is_not_well_is_told_by_what_it_lacks(state, rule, seconds):
    found = only(endpoint_alerts([state], ()))
    assert (found.rule, found.subject, found.after_seconds) == (rule, "endpoint/chat", seconds)
    assert state.reason.partition("; ")[0] in found.text
    assert found.mend


def test_an_endpoint_that_is_well_resting_or_known_to_be_gone_is_no_alert():
    well = an_endpoint(error_share=0.05, p95_seconds=60, first_token_p95_seconds=5)
    assert endpoint_alerts([well, an_endpoint(), an_endpoint("resting"), an_endpoint("stopped")], ()) == []
    assert endpoint_alerts([an_endpoint("gone", "ended")], {"chat"}) == []


def test_a_cluster_that_is_away_is_told_since_it_fell_silent():
    away = Unavailable("no Ray dashboard answers at http://h; check the address", BEGAN, Ok("2.60.0", BEGAN))
    found = only(cluster_alerts(away))
    assert (found.rule, found.subject, found.since) == ("HeadLost", "cluster", BEGAN)
    assert found.mend == "check the address"
    assert cluster_alerts(Ok("2.60.0", NOW)) == []
    assert cluster_alerts(Unavailable("nothing has asked the cluster yet")) == []


@pytest.mark.parametrize(
    "message",
    [
        "RuntimeError: expected scalar type Half; found Float",
        "ValueError: bad magic number; see https://example.org",
        "torch.OutOfMemoryError: tried to allocate 2 GiB; use less",
        "worker 1 failed: NCCL communicator was aborted; the remote peer closed it",
        "its driver was lost (Job supervisor actor died; node is gone)",
    ],
)
def test_what_is_no_advice_of_this_house_is_not_shown_as_help(message):
    assert parted(message, "look at its log") == (message, "look at its log")


@pytest.mark.parametrize(
    "advice", ["free some space", "'heliostat runs list' names them", "lower learning_rate"]
)
def test_the_advice_in_an_error_of_this_house_is_its_mend(advice):
    assert parted(f"x.yaml: what is wrong: there; {advice}", "otherwise") == (
        "x.yaml: what is wrong: there",
        advice,
    )
