"""Who holds a cluster's CPUs and GPUs and who waits for some: actors, tasks, placement groups, by job."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from heliostat.control.answers import amounts, mapping, mappings, text
from heliostat.control.ray_api import RayApi
from heliostat.records import Record

SUPERVISOR = "_ray_internal_job_actor_"
"""Ray names the actor that runs a job's driver so, with the submission id behind it."""
_GONE = {"DEAD", "REMOVED", "FINISHED", "FAILED"}
_TASK_STATES = ("PENDING_NODE_ASSIGNMENT", "RUNNING")

HolderKind = Literal["actor", "task", "placement group"]


class Holder(Record):
    """Something that holds resources on a node, or waits for them (`node_id` is then empty)."""

    kind: HolderKind
    id: str
    name: str
    job_id: str
    """The submission id; Ray's own number for a driver that was not submitted as a job."""
    node_id: str
    state: str
    cpus: float
    gpus: float
    resources: dict[str, float]
    bundles: tuple[dict[str, float], ...] = ()
    """Of a placement group that waits: what each of its parts asks for."""

    @property
    def waits(self) -> bool:
        """Whether it has no node yet."""
        return not self.node_id


def who_holds(api: RayApi, jobs: Mapping[str, str] | None = None) -> tuple[Holder, ...]:
    """What holds or waits for resources now, by node and job. Actors and tasks inside a placement group count
    under the group, which holds for them; what asks for nothing is left out. `jobs` are the
    `submission_ids`, where somebody has asked for these a moment ago.

    Raises:
        Unreachable: the cluster does not answer.
        ClusterError: it refuses, or what answers is no Ray dashboard.
    """
    if jobs is None:
        jobs = submission_ids(mappings(api.get("/api/jobs/", "listing jobs")))
    found = [_actor(row, jobs) for row in api.rows("actors")]
    found += [_task(row, jobs) for state in _TASK_STATES for row in _tasks(api, state)]
    for row in api.rows("placement_groups"):
        found += _bundles(row, jobs)
    # A task that starts between two requests is in both answers; the later one, of those that run, counts.
    kept = {
        (each.kind, each.id, each.node_id if each.kind == "placement group" else ""): each
        for each in found
        if each is not None and each.resources
    }
    return tuple(
        sorted(kept.values(), key=lambda each: (each.waits, each.node_id, each.job_id, each.name, each.id))
    )


def submission_ids(jobs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Our submission ids by Ray's own job numbers, from its list of jobs."""
    found: dict[str, str] = {}
    for entry in jobs:
        number = text(mapping(entry, "driver_info").get("id")) or text(entry.get("job_id"))
        if number and text(entry.get("submission_id")):
            found[number] = text(entry.get("submission_id"))
    return found


def _tasks(api: RayApi, state: str) -> list[dict[str, Any]]:
    query = {"filter_keys": "state", "filter_predicates": "=", "filter_values": state}
    return api.rows("tasks", **query)


def _resources(row: Mapping[str, Any], field: str) -> dict[str, float]:
    """What is asked for; without the marks of a node, which are no amounts of anything."""
    asked = amounts(row.get(field))
    return {name: amount for name, amount in asked.items() if amount and not name.startswith("node:")}


def _actor(row: Mapping[str, Any], jobs: Mapping[str, str]) -> Holder | None:
    if text(row.get("state")) in _GONE or row.get("placement_group_id"):
        return None
    name = text(row.get("name"))
    job = name.removeprefix(SUPERVISOR) if name.startswith(SUPERVISOR) else _job(row.get("job_id"), jobs)
    shown = "the job's driver" if name.startswith(SUPERVISOR) else name or text(row.get("class_name"))
    return _holder(
        "actor", row, (text(row.get("actor_id")), shown, job), _resources(row, "required_resources")
    )


def _task(row: Mapping[str, Any], jobs: Mapping[str, str]) -> Holder | None:
    if row.get("actor_id") or row.get("placement_group_id") or text(row.get("type")) == "ACTOR_CREATION_TASK":
        return None  # the actor or the group holds for it
    name = text(row.get("name")) or text(row.get("func_or_class_name"))
    identity = (text(row.get("task_id")), name, _job(row.get("job_id"), jobs))
    return _holder("task", row, identity, _resources(row, "required_resources"))


def _bundles(row: Mapping[str, Any], jobs: Mapping[str, str]) -> list[Holder]:
    """A placement group's bundles, those of a node as one holder."""
    if text(row.get("state")) in _GONE:
        return []
    by_node: dict[str, dict[str, float]] = {}
    waiting: list[dict[str, float]] = []
    for bundle in mappings(row.get("bundles")):
        node, asked = text(bundle.get("node_id")), _resources(bundle, "unit_resources")
        waiting += [] if node else [asked]
        held = by_node.setdefault(node, {})
        for name, amount in asked.items():
            held[name] = held.get(name, 0.0) + amount
    group = text(row.get("placement_group_id"))
    job = _job(row.get("creator_job_id"), jobs)
    identity = (group, text(row.get("name")) or f"placement group {group[:8]}", job)
    holders = []
    for node, held in by_node.items():
        holder = _holder("placement group", {**row, "node_id": node}, identity, held)
        holders.append(holder if node else holder.model_copy(update={"bundles": tuple(waiting)}))
    return holders


def _holder(
    kind: HolderKind, row: Mapping[str, Any], identity: tuple[str, str, str], resources: dict[str, float]
) -> Holder:
    key, name, job = identity
    return Holder(
        kind=kind,
        id=key,
        name=name,
        job_id=job,
        node_id=text(row.get("node_id")),
        state=text(row.get("state")),
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        resources=resources,
    )


def _job(number: object, jobs: Mapping[str, str]) -> str:
    ray_id = text(number)
    return jobs.get(ray_id, ray_id)
