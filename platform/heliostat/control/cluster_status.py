"""The autoscaler's status as Ray's dashboard hands it on: as structure by the first autoscaler, as a page of
text by the second (KubeRay, `ray up`). Both are read into one `Status`.

Trap: in the structure, names of resources and node types that are keys are turned into camelCase
(`gpu_train` -> `gpuTrain`), those inside lists are not.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from heliostat.control.answers import amounts, mapping, moment, number, text, whole
from heliostat.control.node_types import camel
from heliostat.control.ray_api import RayApi

Resources = dict[str, float]
_SIZES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
_USAGE = re.compile(r"^([\d.]+)([KMGTP]?i?B)?/([\d.]+)([KMGTP]?i?B)? (\S+)")
_GANG = re.compile(r"(\{.*?\}) \* (\d+)")
_STRATEGY = re.compile(r"\((\w+)\): (\d+)\+? pending placement groups?")
_TASKS = re.compile(r"^(\{.*?\})(?: \(.*\))?: (\d+)\+? pending tasks/actors")
_REQUEST = re.compile(r"^(\{.*?\}): (\d+) from request_resources")


@dataclass(frozen=True)
class Gang:
    """Bundles that are wanted together, by a placement group."""

    bundles: tuple[Resources, ...]
    strategy: str


@dataclass
class Status:
    """What the autoscaler knows, before anybody says what it means."""

    at: datetime | None = None
    known: bool = False
    """Whether there is a status at all."""
    second: bool = False
    """Whether it is of the second autoscaler, which names neither the nodes' resources nor itself."""
    error: str = ""
    running: dict[str, int] = field(default_factory=dict)
    """Nodes by type."""
    starting: dict[str, int] = field(default_factory=dict)
    failures: list[tuple[str, str, datetime | None]] = field(default_factory=list)
    """Node type, why, when."""
    usage: dict[str, tuple[float, float]] = field(default_factory=dict)
    demands: list[tuple[Resources, int]] = field(default_factory=list)
    gangs: list[tuple[Gang, int]] = field(default_factory=list)
    requests: list[tuple[Resources, int]] = field(default_factory=list)
    type_of: dict[str, str] = field(default_factory=dict)
    """Each node's type by the node's id or address; empty where it is not told."""


def read_status(api: RayApi) -> Status:
    """The status, empty where there is none.

    Raises:
        Unreachable: the cluster does not answer.
        ClusterError: it refuses, or what answers is no Ray dashboard.
    """
    data = mapping(api.get("/api/cluster_status", "asking what waits"), "data")
    status = mapping(data, "clusterStatus")
    if status:
        found = _from_structure(status)
    else:
        page = mapping(api.get("/api/cluster_status", "asking what waits", format="1"), "data")
        found = from_text(str(page.get("clusterStatus") or ""))
    found.error = text(data.get("autoscalingError"))
    return found


def _from_structure(status: Mapping[str, Any]) -> Status:
    report, load = mapping(status, "autoscalerReport"), mapping(status, "loadMetricsReport")
    type_of = {str(node): text(kind) for node, kind in mapping(report, "nodeTypeMapping").items()}
    names = {camel(kind): kind for kind in type_of.values()}
    starting = _counts(report.get("pendingLaunches"), names)
    for each in _lists(report.get("pendingNodes")):
        if len(each) > 1:
            starting[text(each[1])] = starting.get(text(each[1]), 0) + 1
    running = _counts(report.get("activeNodes"), names)
    for kind, count in _counts(report.get("idleNodes"), names).items():
        running[kind] = running.get(kind, 0) + count
    return Status(
        at=moment(status.get("time")),
        known=True,
        running={kind: count for kind, count in running.items() if count},
        starting={kind: count for kind, count in starting.items() if count},
        failures=[*_unavailable(report), *_failed(report)],
        usage={str(name): pair for name, each in mapping(load, "usage").items() if (pair := _pair(each))},
        demands=_counted(load.get("resourceDemand")),
        gangs=_gangs(load.get("pgDemand")),
        requests=_counted(load.get("requestDemand")),
        type_of=type_of,
    )


def _counts(value: object, names: Mapping[str, str]) -> dict[str, int]:
    return {names.get(name, name): int(count) for name, count in amounts(value).items()}


def _lists(value: object) -> Iterator[list[Any]]:
    if isinstance(value, list):
        yield from (each for each in value if isinstance(each, list))


def _pair(value: object) -> tuple[float, float] | None:
    figures = [number(each) for each in value] if isinstance(value, list) else []
    if len(figures) != 2 or figures[0] is None or figures[1] is None:
        return None
    return figures[0], figures[1]


def _counted(value: object) -> list[tuple[Resources, int]]:
    return [(amounts(each[0]), whole(each[1]) or 1) for each in _lists(value) if len(each) > 1]


def _gangs(value: object) -> list[tuple[Gang, int]]:
    found = []
    for each in _lists(value):
        gang = mapping(each[0]) if each else {}
        bundles = tuple(b for asked, count in _counted(gang.get("bundles")) for b in [asked] * count)
        if bundles:
            found.append((Gang(bundles, text(gang.get("strategy"))), whole(each[1]) or 1 if each[1:] else 1))
    return found


def _unavailable(report: Mapping[str, Any]) -> Iterator[tuple[str, str, datetime | None]]:
    records = mapping(report, "nodeAvailabilitySummary", "nodeAvailabilities")
    for name, each in records.items():
        record = mapping(each)
        why = mapping(record, "unavailableNodeInformation")
        if why:
            said = ": ".join(filter(None, (text(why.get("category")), text(why.get("description")))))
            yield text(record.get("nodeType")) or str(name), said, moment(record.get("lastCheckedTimestamp"))


def _failed(report: Mapping[str, Any]) -> Iterator[tuple[str, str, datetime | None]]:
    for each in _lists(report.get("failedNodes")):
        if len(each) > 1:
            yield text(each[1]), f"the node {text(each[0])} was lost or could not be set up", None


def from_text(page: str) -> Status:
    """Read the page that `ray status` prints; what is not understood is passed over."""
    known = page.startswith("====") and "Node status" in page
    status = Status(known=known, second=known)
    section = ""
    for line in page.splitlines():
        if line and not line.startswith((" ", "-", "=")):
            section = line.partition(":")[0]
        elif line.strip() and not line.strip().startswith("("):
            _read_line(status, section, line.strip())
    return status


def _read_line(status: Status, section: str, line: str) -> None:
    if section in ("Active", "Idle"):
        count, _, kind = line.partition(" ")
        if count.isdigit():
            status.running[kind] = status.running.get(kind, 0) + int(count)
    elif section == "Pending":
        _read_pending(status, line)
    elif section == "Recent failures":
        kind, _, why = line.partition(": ")
        status.failures.append((kind, why, None))
    elif section == "Total Usage":
        if found := _USAGE.match(line):
            used, used_unit, total, total_unit, name = found.groups()
            size = (float(used) * _SIZES.get(used_unit, 1), float(total) * _SIZES.get(total_unit, 1))
            status.usage[name] = size
    elif section == "From request_resources":
        if found := _REQUEST.match(line):
            status.requests += [(literal(found[1]), int(found[2]))]
    elif section == "Pending Demands":
        _read_demand(status, line)


def _read_pending(status: Status, line: str) -> None:
    """`train, 2 launching`, or `10.0.0.7: train, setting-up`, where the last word may be missing."""
    named, _, rest = line.rstrip(",").partition(", ")
    launching = re.match(r"(\d+) launching", rest)
    kind = named if launching else named.rpartition(": ")[2]
    status.starting[kind] = status.starting.get(kind, 0) + (int(launching[1]) if launching else 1)


def _read_demand(status: Status, line: str) -> None:
    if found := _TASKS.match(line):
        status.demands.append((literal(found[1]), int(found[2])))
    elif strategy := _STRATEGY.search(line):
        pairs: Iterable[tuple[str, str]] = _GANG.findall(line)
        bundles = tuple(b for asked, count in pairs for b in [literal(asked)] * int(count))
        if bundles:
            status.gangs.append((Gang(bundles, strategy[1]), int(strategy[2])))


def literal(said: str) -> Resources:
    """`{'CPU': 1.0}` as amounts by name; empty where it is not that."""
    try:
        return amounts(ast.literal_eval(said))
    except (ValueError, SyntaxError):
        return {}
