"""What `heliostat cluster status` and the cluster page both say."""

from typing import get_args

from heliostat.control.cluster_words import (
    REMEDIES,
    gib_of,
    gone_line,
    part_of,
    scaling_lines,
    waiter_line,
    waiting_line,
)
from heliostat.control.demand import Demand, LaunchFailure, Reason, Waiting
from heliostat.control.holders import Holder
from heliostat.control.node_types import NodeType
from heliostat.control.nodes import Node

WAITING = Waiting(
    kind="task or actor", bundles=({"GPU": 1.0},), strategy="", count=2, reason="busy", why="all in use"
)
DEMAND = Demand(
    at=None, autoscaler=True, waiting=(WAITING,), used={}, events=(), error="no quota",
    node_types=(NodeType(name="train", resources={}, starting=2), NodeType(name="head", resources={})),
    failures=(LaunchFailure(node_type="train", reason="no capacity", at=None),),
)  # fmt: skip


def node(**fields) -> Node:
    told = dict.fromkeys(Node.model_fields)
    told |= {
        "id": "a" * 48 + "deadbeef",
        "name": "n",
        "ip": "",
        "state": "DEAD",
        "alive": False,
        "is_head": False,
    }
    told |= {"group": "", "labels": {}, "resources": {}, "gpus": (), "state_message": "reclaimed"}
    return Node(**told | fields)


def test_what_waits_is_counted_and_has_its_reason():
    assert waiting_line(WAITING) == "2 tasks or actors for 1 GPU: all in use"
    assert waiting_line(WAITING.model_copy(update={"count": 1})) == "1 task or actor for 1 GPU: all in use"


def test_every_reason_has_something_that_would_help():
    assert set(REMEDIES) == set(get_args(Reason))


def test_a_waiter_says_whose_it_is_and_why_it_waits():
    holder = Holder(
        kind="actor", id="1", name="trainer", job_id="job-1", node_id="", state="PENDING", cpus=0.0, gpus=1.0,
        resources={"GPU": 1.0},
    )  # fmt: skip
    assert waiter_line(holder, DEMAND) == "actor trainer of job job-1: all in use"
    assert (
        waiter_line(holder.model_copy(update={"job_id": "", "resources": {"CPU": 1.0}}), DEMAND)
        == "actor trainer"
    )


def test_the_autoscaler_tells_what_it_fails_at_starts_and_could_not_start():
    assert scaling_lines(DEMAND) == [
        "The autoscaler fails: no quota",
        "Starting: 2 of type train.",
        "Not started: train: no capacity.",
    ]


def test_only_a_dead_node_is_gone():
    assert gone_line(node()) == "deadbeef is gone: reclaimed"
    assert gone_line(node(state_message="")) == ""
    assert gone_line(node(alive=True, state="ALIVE")) == ""


def test_what_is_not_told_is_no_zero():
    assert (part_of(None, 8.0), part_of(3.0, 8.0), part_of(1.0, None)) == ("? of 8", "3 of 8", "-")
    assert (gib_of(2**29, 2**30), gib_of(None, 2**30)) == ("0.5 of 1.0 GiB", "-")
