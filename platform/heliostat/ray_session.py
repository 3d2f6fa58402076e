"""The one place that starts or joins a Ray cluster. The command line, the jobs and the tests come here."""

import atexit
import json
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from heliostat.config import Resources
from heliostat.errors import ClusterError
from heliostat.records import submitted_job

# Every worker inherits these. Train V2 is the API this code is written for; its controller takes a worker's
# report only when it looks: every 2 s by default, and then a run of seconds takes twice as long, but looking
# every 0.1 s takes a fifth of a processor. After a host is lost it believes for some seconds that the host is
# there: so long it waits for workers on it, and counts again. Serve's replicas tell their load every 10 s by
# default, too late for an endpoint that is to follow it. One arena for all threads, or the memory that
# the training's thread frees goes back to the system at each step (see `keep_freed_memory`). Tokenizer
# threads deadlock in forks; usage statistics leave the machine.
ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "5",
    "RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "1",
    "MALLOC_ARENA_MAX": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
# On one machine nothing is preempted, and nobody reads the driver's copy of logs, or what a dashboard that is
# not there would show: what looks for these several times a second takes a thirtieth of a processor. Of the
# log monitor a threshold of no files makes its interval count. Serve's controller looks ten times a second
# whether anything is to be changed, which takes as much, and is at once in the way of an engine on all cores.
LOCAL_ENVIRONMENT = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_event_stats": "0",
    "RAY_DASHBOARD_AGENT_CHECK_PARENT_INTERVAL_S": "5",
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",
    "LOG_NAME_UPDATE_INTERVAL_S": "86400",
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    "REPORTER_UPDATE_INTERVAL_MS": "60000",
}

NODE_TYPES_VARIABLE = "HELIOSTAT_NODE_TYPES"


def is_local() -> bool:
    """Whether a session here has a cluster of its own, which ends with it."""
    return not os.environ.get("RAY_ADDRESS")


@contextmanager
def ray_session(num_cpus: int | None = None) -> Iterator[Any]:
    """Join the cluster at $RAY_ADDRESS (a submitted job finds it set), else run a local one for this block.

    A local cluster has no dashboard and asks for a token that never leaves this process tree.

    Raises:
        ClusterError: there is no cluster at the address, or it refuses the token.
    """
    address = os.environ.get("RAY_ADDRESS")
    os.environ.update({name: os.environ.get(name, value) for name, value in ENVIRONMENT.items()})
    only_here = {} if address else {n: v for n, v in LOCAL_ENVIRONMENT.items() if n not in os.environ}
    os.environ.update(only_here)
    if not address:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        if not os.environ.get("RAY_AUTH_TOKEN_PATH"):
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        options["runtime_env"] = {"env_vars": _environment_to_send()}
    else:
        options |= {"num_cpus": num_cpus, "include_dashboard": False}
    try:
        # Not None: Ray would then join whatever cluster was started on this machine last.
        ray.init(address=address or "local", **options)
    except (ConnectionError, ray.exceptions.RayError) as error:
        raise ClusterError(f"no Ray cluster answers at {address}: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
        for name in only_here:
            os.environ.pop(name, None)


def _environment_to_send() -> dict[str, str]:
    """What workers of a joined cluster, which did not inherit it, must be given. Ray refuses a variable that
    the job's own runtime_env holds already."""
    given = (submitted_job().get("runtime_env") or {}).get("env_vars") or {}
    return {name: os.environ[name] for name in ENVIRONMENT if name not in given}


def joined_cluster() -> bool:
    """Whether this process works on a cluster that was there before it, and will be after it."""
    return bool(os.environ.get("RAY_ADDRESS"))


def exit_without_destructors() -> None:
    """In an actor of Ray Train or Tune: end the process as soon as Python's own clean-up comes.

    Ray 2.60's destructors behind it sometimes wait for each other for ever, and the process stays, with all
    its memory. Ray has left the cluster by then.
    """
    import ray

    if ray.get_runtime_context().get_actor_id():
        atexit.register(os._exit, 0)


def require_resources(each: Resources, count: int, what: str) -> None:
    """Refuse at once what this cluster can never give, instead of waiting for it for ever.

    Raises:
        ClusterError: says what was asked and what is there.
    """
    import ray

    there = ray.cluster_resources()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if limits := node_limits():
        nodes = [resources for resources, most in limits for _ in range(most)]
        there = {name: sum(node.get(name, 0) for node in nodes) for node in nodes for name in node}
    asked = {"CPU": each.num_cpus, "GPU": each.num_gpus, "memory": float(each.memory_bytes or 0)}
    asked = {name: amount for name, amount in asked.items() if amount}
    fitting = sum(_room(asked, node) for node in nodes) if asked else count
    if fitting < count:
        wanted = " and ".join(f"{amount:g} {name}" for name, amount in asked.items())
        found = ", ".join(f"{there.get(name, 0):g} {name}" for name in asked)
        raise ClusterError(
            f"{what} asks for {count} x {wanted}; this cluster {'may have' if limits else 'has'} {found} "
            f"on {len(nodes)} node(s), room for {fitting}; "
            "ask for less, or join a larger cluster with RAY_ADDRESS"
        )


def _room(asked: dict[str, float], node: dict[str, float]) -> int:
    """How often this fits a node. Node types are seldom told how much memory they have: then it is enough."""
    told = {name: amount for name, amount in asked.items() if name != "memory" or name in node}
    return min((int(node.get(name, 0) / amount) for name, amount in told.items()), default=1)


def node_limits() -> list[tuple[dict[str, float], int]]:
    """What the nodes of each type have, and how many of it there may be, on a cluster whose autoscaler starts
    them: as its nodes were told in HELIOSTAT_NODE_TYPES. Empty where nothing was told: what is there is all.

    Raises:
        ClusterError: the variable is not what it should be.
    """
    told = os.environ.get(NODE_TYPES_VARIABLE)
    if not told:
        return []
    try:
        types = json.loads(told).values()
        return [
            ({str(n): float(a) for n, a in each["resources"].items()}, int(each["most"])) for each in types
        ]
    except (ValueError, TypeError, AttributeError, KeyError):
        raise ClusterError(
            f"{NODE_TYPES_VARIABLE} is not JSON of the form "
            '{"train": {"resources": {"CPU": 8, "GPU": 1}, "most": 4}}; mend it where the nodes are started'
        ) from None


def options_of(resources: Resources) -> dict[str, Any]:
    """The resources in Ray's words, for `@ray.remote`, `map_batches` and actors."""
    options: dict[str, Any] = {"num_cpus": resources.num_cpus, "num_gpus": resources.num_gpus}
    if resources.memory_bytes:
        options["memory"] = resources.memory_bytes
    return options
