"""The nodes of a Ray cluster: what they are, how busy they are, and what became of those that are gone.

Ray's `/nodes?view=summary` is internal to its dashboard: keys are camelCase, also those of custom resources;
numbers of 64 bits are text; GPU memory is in MiB; a node's figures are up to 15 s old; of a dead node little
is told. Its cache answers with what was true when it was last asked, however long ago, so it is passed over.
"""

import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from heliostat.control.answers import amounts, mapping, mappings, moment, number, text, whole
from heliostat.control.ray_api import RayApi
from heliostat.records import Record

MIB = 2**20
GROUP_LABELS = ("ray.io/node-group", "ray.io/group")
_USE = re.compile(r"^\s*([\d.]+)/([\d.]+) (\S+)", re.MULTILINE)


class GpuState(Record):
    """A GPU as the node's driver sees it; None for what the driver does not tell."""

    index: int | None = None
    name: str = ""
    utilisation: float | None = None
    """Percent."""
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_celsius: float | None = None


class Node(Record):
    """A node, alive or dead. `cpus_*` and `gpus_*` count what Ray has given out; the rest is measured.

    None is "not told", never 0.
    """

    id: str
    name: str
    ip: str
    state: str
    """Ray's own word: ALIVE, DEAD."""
    alive: bool
    is_head: bool
    group: str
    """The node type it was started as; `head` for a head of no type, empty for other nodes of no type."""
    labels: dict[str, str]
    resources: dict[str, float]
    """What it has of every resource, custom ones under the name the dashboard gives them."""
    cpus_total: float | None
    cpus_used: float | None
    gpus_total: float | None
    gpus_used: float | None
    cpu_percent: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    disk_used_bytes: int | None
    disk_total_bytes: int | None
    object_store_used_bytes: int | None
    object_store_total_bytes: int | None
    gpus: tuple[GpuState, ...]
    state_message: str
    """Why it died, in Ray's words."""
    started_at: datetime | None
    ended_at: datetime | None


def read_nodes(api: RayApi) -> tuple[Node, ...]:
    """All nodes that the cluster remembers: the head first, then those alive, then the dead, latest first.

    Raises:
        Unreachable: the cluster does not answer.
        ClusterError: it refuses, or what answers is no Ray dashboard.
    """
    answer = api.get("/nodes", "listing nodes", view="summary", nocache=1)
    data = mapping(answer, "data")
    summary = [entry for entry in mappings(data.get("summary")) if _id(entry)]
    uses = _uses(mapping(data, "nodeLogicalResources"), summary)
    nodes = [_node(entry, uses.get(_id(entry), {})) for entry in summary]
    return tuple(sorted(nodes, key=_order))


def _id(entry: Mapping[str, Any]) -> str:
    return text(mapping(entry, "raylet").get("nodeId"))


def _alive(entry: Mapping[str, Any]) -> bool:
    return text(mapping(entry, "raylet").get("state")) in ("ALIVE", "")


def _order(node: Node) -> tuple[bool, bool, float, str]:
    started = node.started_at.timestamp() if node.started_at else 0.0
    return (not node.is_head, not node.alive, started if node.alive else -started, node.id)


def _uses(logical: Mapping[str, Any], summary: list[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """What is given out on each node, by its id. Ray lists it by id or by address, and where several nodes
    share an address the latter tells nothing of either."""
    sharing = Counter(text(entry.get("ip")) for entry in summary if _alive(entry))
    found: dict[str, dict[str, float]] = {}
    for entry in summary:
        ip = text(entry.get("ip"))
        lines = logical.get(_id(entry)) or (logical.get(ip) if sharing[ip] == 1 else None)
        if isinstance(lines, str):
            used = {name: number(amount) for amount, _, name in _USE.findall(lines)}
            found[_id(entry)] = {name: amount for name, amount in used.items() if amount is not None}
    return found


def _node(entry: Mapping[str, Any], used: Mapping[str, float]) -> Node:
    raylet = mapping(entry, "raylet")
    alive = _alive(entry)
    measured = entry if alive else {}
    is_head = raylet.get("isHeadNode") is True
    labels = {str(name): text(value) for name, value in mapping(raylet, "labels").items()}
    resources = amounts(raylet.get("resourcesTotal"))
    memory_used, memory_total = _memory(measured)
    disk = _disk(measured, text(raylet.get("tempDir")))
    store_used = whole(raylet.get("objectStoreUsedMemory"))
    store_free = whole(raylet.get("objectStoreAvailableMemory"))
    cpus, gpus = _total(resources, "CPU"), _total(resources, "GPU")
    return Node(
        id=_id(entry),
        name=text(entry.get("hostname")) or text(raylet.get("nodeName")),
        ip=text(entry.get("ip")) or text(raylet.get("nodeManagerAddress")),
        state=text(raylet.get("state")),
        alive=alive,
        is_head=is_head,
        group=_group(raylet, labels, is_head),
        labels=labels,
        resources=resources,
        cpus_total=cpus,
        cpus_used=used.get("CPU", 0.0 if used else None) if alive and cpus is not None else None,
        gpus_total=gpus,
        gpus_used=used.get("GPU", 0.0 if used else None) if alive and gpus is not None else None,
        cpu_percent=number(measured.get("cpu")),
        memory_used_bytes=memory_used,
        memory_total_bytes=memory_total,
        disk_used_bytes=whole(disk.get("used")),
        disk_total_bytes=whole(disk.get("total")),
        object_store_used_bytes=store_used if alive else None,
        object_store_total_bytes=None
        if store_used is None or store_free is None
        else store_used + store_free,
        gpus=tuple(_gpu(each) for each in mappings(measured.get("gpus"))),
        state_message=text(raylet.get("stateMessage")),
        started_at=moment(raylet.get("startTimeMs"), 1e-3),
        ended_at=moment(raylet.get("endTimeMs"), 1e-3),
    )


def _group(raylet: Mapping[str, Any], labels: Mapping[str, str], is_head: bool) -> str:
    named = (labels[name] for name in GROUP_LABELS if labels.get(name))
    return text(raylet.get("nodeTypeName")) or next(named, "head" if is_head else "")


def _total(resources: Mapping[str, float], name: str) -> float | None:
    """A node that tells its resources and has none of this one has 0."""
    return resources.get(name, 0.0) if resources else None


def _memory(entry: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Used and total, from [total, available, percent, used]."""
    figures = entry.get("mem")
    if not isinstance(figures, list | tuple) or len(figures) < 4:
        return None, None
    return whole(figures[3]), whole(figures[0])


def _disk(entry: Mapping[str, Any], temporary: str) -> Mapping[str, Any]:
    """The disk that Ray writes to, else the root's."""
    disks = mapping(entry, "disk")
    return mapping(disks, temporary) or mapping(disks, "/") or mapping(next(iter(disks.values()), None))


def _gpu(entry: Mapping[str, Any]) -> GpuState:
    used, total = number(entry.get("memoryUsed")), number(entry.get("memoryTotal"))
    return GpuState(
        index=whole(entry.get("index")),
        name=text(entry.get("name")),
        utilisation=number(entry.get("utilizationGpu")),
        memory_used_bytes=None if used is None else int(used * MIB),
        memory_total_bytes=None if total is None else int(total * MIB),
        temperature_celsius=number(entry.get("temperatureC")),
    )
