"""What waits for resources on a Ray cluster, and why, in words; what the autoscaler does about it."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from heliostat.control.answers import mapping, mappings, moment, text
from heliostat.control.cluster_status import Gang, Status, literal, read_status
from heliostat.control.local_cluster import known_node_types
from heliostat.control.node_types import (
    NodeType,
    amount_of,
    camel,
    counts,
    fits,
    in_words,
    never_fits,
    room,
)
from heliostat.control.nodes import Node, read_nodes
from heliostat.control.ray_api import RayApi
from heliostat.records import Record

MOST_EVENTS = 50
_MIRRORED = re.compile(r"^node_?[0-9a-fA-F]{20,}$")
"""Where there is no autoscaler Ray gives each node a type of its own, named after it."""
_BRACES = re.compile(r"\{.*?\}")

Reason = Literal["impossible", "starting", "launch failed", "full", "busy", "deciding"]


class Waiting(Record):
    """Something that waits. `why` is a sentence; `reason` its kind, for colours and filters."""

    kind: Literal["task or actor", "placement group", "request"]
    bundles: tuple[dict[str, float], ...]
    """What it asks for; more than one for a placement group, whose bundles start together."""
    strategy: str
    count: int
    """How many wait that ask for the same; Ray counts no further than it must, so at least so many."""
    reason: Reason
    why: str

    @property
    def asked(self) -> str:
        """`4 x 1 CPU`, in words."""
        different = {in_words(bundle): self.bundles.count(bundle) for bundle in self.bundles}
        parts = [f"{count} x {words}" if count > 1 else words for words, count in different.items()]
        return ", ".join(parts) + (f" ({self.strategy})" if self.strategy else "")


class Use(Record):
    """How much of a resource is given out."""

    used: float
    total: float


class LaunchFailure(Record):
    """A node that did not come up, or was lost."""

    node_type: str
    reason: str
    at: datetime | None


class ClusterEvent(Record):
    """Something that the autoscaler or another part of Ray told."""

    at: datetime | None
    source: str
    severity: str
    message: str


class Demand(Record):
    """What waits and what could take it. `autoscaler` is False where the cluster never grows."""

    at: datetime | None
    autoscaler: bool
    waiting: tuple[Waiting, ...]
    node_types: tuple[NodeType, ...]
    used: dict[str, Use]
    failures: tuple[LaunchFailure, ...]
    events: tuple[ClusterEvent, ...]
    """The latest first."""
    error: str
    """What the autoscaler itself fails at; empty when it is well."""

    def why(self, bundles: Sequence[Mapping[str, float]]) -> str | None:
        """Why this waits: of an actor or task one bundle, of a placement group all; None when it does not."""
        wanted = sorted(sorted(bundle.items()) for bundle in bundles)
        for each in self.waiting:
            if sorted(sorted(bundle.items()) for bundle in each.bundles) == wanted:
                return each.why
        return None


def read_demand(api: RayApi, node_types: Sequence[NodeType] | None = None) -> Demand:
    """What waits and why. Ray does not tell the limits of its node types. They are known of this machine's
    local cluster, else from HELIOSTAT_NODE_TYPES, or given; else what is there counts, and what the
    autoscaler says.

    Raises:
        Unreachable: the cluster does not answer.
        ClusterError: it refuses, or what answers is no Ray dashboard.
    """
    given = known_node_types(api.address) if node_types is None else node_types
    status = read_status(api)
    nodes = [node for node in read_nodes(api) if node.alive]  # the status is some seconds older
    events = _events(api.get("/events", "asking what happened"))
    own = any(not _MIRRORED.match(name) for name in status.running)
    autoscaler = status.second or bool(given) or bool(status.starting) or own or _launched(events)
    types = _types(status, nodes, given)
    known = _Known(status, types, autoscaler, bool(given), _refused(events))
    waiting = [known.judge("task or actor", (asked,), "", count) for asked, count in status.demands]
    waiting += [known.judge("placement group", g.bundles, g.strategy, count) for g, count in status.gangs]
    waiting += [known.judge("request", (asked,), "", count) for asked, count in status.requests]
    return Demand(
        at=status.at,
        autoscaler=autoscaler,
        waiting=tuple(waiting),
        node_types=types,
        used={name: Use(used=pair[0], total=pair[1]) for name, pair in status.usage.items() if counts(name)},
        failures=tuple(LaunchFailure(node_type=kind, reason=why, at=at) for kind, why, at in status.failures),
        events=events[:MOST_EVENTS],
        error=status.error,
    )


def refuse_impossible(demand: Demand, resources: Mapping[str, float], num_workers: int = 1) -> str | None:
    """Why `num_workers` workers that ask for `resources` each can never run there, in words; None if they
    could, or if it cannot be known because Ray does not tell what the autoscaler may start.
    """
    asked = {name: amount for name, amount in resources.items() if amount > 0}
    refused = [resources for event in demand.events for resources in _refused((event,))]
    why = never_fits(asked, demand.node_types)
    limits_known = not demand.autoscaler or any(each.most is not None for each in demand.node_types)
    if why is not None and (limits_known or asked in refused):
        return f"a worker {why}; ask for less, or add a node type that has it"
    there = room(asked, demand.node_types)
    if limits_known and there < num_workers:
        each = f"{num_workers} workers of {in_words(asked)} each"
        grown = "even with all its nodes started" if demand.autoscaler else "and it does not grow"
        return f"{each} were asked for; the cluster has room for {there}, {grown}; ask for fewer workers"
    return None


class _Known:
    """What is known when a demand is judged."""

    def __init__(
        self,
        status: Status,
        types: Sequence[NodeType],
        autoscaler: bool,
        limits: bool,
        refused: Sequence[Mapping[str, float]],
    ) -> None:
        self.status, self.types, self.autoscaler = status, types, autoscaler
        self.limits, self.refused = limits, refused

    def judge(
        self,
        kind: Literal["task or actor", "placement group", "request"],
        bundles: tuple[dict[str, float], ...],
        strategy: str,
        count: int,
    ) -> Waiting:
        whole = _together(bundles) if strategy == "STRICT_PACK" else None
        asked = [whole] if whole else list(bundles)
        reason, why = self._why(asked, Gang(bundles, strategy))
        return Waiting(kind=kind, bundles=bundles, strategy=strategy, count=count, reason=reason, why=why)

    def _why(self, asked: list[dict[str, float]], gang: Gang) -> tuple[Reason, str]:
        impossible = self._impossible(asked, gang)
        if impossible:
            return "impossible", impossible
        takers = [each for each in self.types if all(fits(one, each.resources) for one in asked)] or [
            each for each in self.types if any(fits(one, each.resources) for one in asked)
        ]
        starting = {each.name: each.starting for each in takers if each.starting}
        if not takers:
            starting = dict(self.status.starting)
        if starting:
            nodes = " and ".join(f"{count} of type {name}" for name, count in sorted(starting.items()))
            one = sum(starting.values()) == 1
            return "starting", f"{sum(starting.values())} node{'' if one else 's'} starting: {nodes}"
        names = {each.name for each in takers}
        failed = [(kind, why) for kind, why, _ in self.status.failures if kind in names or not names]
        if failed:
            kind, why = failed[0]
            return "launch failed", f"a node of type {kind} could not be started: {why}"
        return self._occupied(asked, takers)

    def _occupied(self, asked: list[dict[str, float]], takers: list[NodeType]) -> tuple[Reason, str]:
        busy = self._use({name for one in asked for name in one})
        if not self.autoscaler:
            return (
                "busy",
                f"everything is in use: {busy}; it starts when something ends, for no node is added",
            )
        full = [each for each in takers if each.most is not None and each.running >= each.most]
        if takers and len(full) == len(takers):
            nodes = " and ".join(f"{each.running} of {each.most} {each.name}" for each in full)
            return "full", f"all nodes that may be are there ({nodes}) and in use: {busy}"
        if any(each.running for each in takers) or not takers:
            return "busy", f"what is there is in use: {busy}; the autoscaler adds a node if it may"
        names = " or ".join(each.name for each in takers)
        return "deciding", f"the autoscaler has not started a node yet; {names} would do"

    def _impossible(self, asked: list[dict[str, float]], gang: Gang) -> str | None:
        decided = self.limits or not self.autoscaler
        for one in asked:
            why = never_fits(one, self.types)
            if why and (decided or any(_same(one, refused) for refused in self.refused)):
                grows = "" if self.autoscaler else ", and the cluster does not grow"
                return f"{why}{grows}; it will never start"
        if decided and gang.strategy == "STRICT_SPREAD":
            nodes = sum(each.possible for each in self.types)
            if nodes < len(gang.bundles):
                return (
                    f"asks for {len(gang.bundles)} different nodes; there can be {nodes}; it will never start"
                )
        if decided and len(asked) > 1 and len({tuple(sorted(one.items())) for one in asked}) == 1:
            there = room(asked[0], self.types)
            if there < len(asked):
                each = in_words(asked[0])
                return f"asks for {len(asked)} x {each} together; there can be {there}; it will never start"
        return None

    def _use(self, names: set[str]) -> str:
        written = {camel(name): name for name in names}
        parts = []
        for name, (used, total) in self.status.usage.items():
            if (found := written.get(name, name)) in names and counts(found):
                parts.append(f"{_bare(found, used)} of {amount_of(found, total)}")
        return ", ".join(sorted(parts)) or "how much is not told"


def _bare(name: str, amount: float) -> str:
    return f"{amount / 2**30:.3g}" if "memory" in name.lower() else f"{amount:g}"


def _same(asked: Mapping[str, float], refused: Mapping[str, float]) -> bool:
    return {name: amount for name, amount in asked.items() if amount} == dict(refused)


def _together(bundles: tuple[dict[str, float], ...]) -> dict[str, float]:
    names = {name for bundle in bundles for name in bundle}
    return {name: sum(bundle.get(name, 0.0) for bundle in bundles) for name in names}


def _types(status: Status, nodes: Sequence[Node], given: Sequence[NodeType]) -> tuple[NodeType, ...]:
    """The types that were given, with what runs of them now; else those of the nodes that are there."""
    seen = _seen(status, nodes)
    named = {each.name: each for each in given}
    names = [*named, *status.starting, *(name for name in status.running if not _MIRRORED.match(name))]
    for name in dict.fromkeys(names):
        there = seen.pop(name, NodeType(name=name, resources={}))
        named[name] = named.get(name, there).model_copy(
            update={"running": there.running, "starting": status.starting.get(name, 0)}
        )
    return (*named.values(), *seen.values())


def _seen(status: Status, nodes: Sequence[Node]) -> dict[str, NodeType]:
    """The types of the nodes that are there, by name; of those without one, by what they have."""
    found: dict[str, NodeType] = {}
    for node in nodes:
        has = {name: amount for name, amount in node.resources.items() if counts(name)}
        told = status.type_of.get(node.id) or status.type_of.get(node.ip) or node.group
        name = "" if _MIRRORED.match(told) else told
        key = name or in_words({each: amount for each, amount in has.items() if "memory" not in each.lower()})
        before = found.get(key, NodeType(name=name or f"a node of {key}", resources={}))
        most = {each: max(before.resources.get(each, 0.0), amount) for each, amount in has.items()}
        found[key] = before.model_copy(
            update={"resources": before.resources | most, "running": before.running + 1}
        )
    return found


def _events(answer: Any) -> tuple[ClusterEvent, ...]:
    groups = mapping(answer, "data", "events")
    found: dict[str, ClusterEvent] = {}
    for rows in groups.values():
        for row in mappings(rows):
            event = ClusterEvent(
                at=moment(row.get("timestamp")),
                source=text(row.get("sourceType")),
                severity=text(row.get("severity")),
                message=text(row.get("message")),
            )
            found[text(row.get("eventId")) or str(len(found))] = event
    return tuple(
        sorted(found.values(), key=lambda each: each.at.timestamp() if each.at else 0.0, reverse=True)
    )


def _launched(events: Sequence[ClusterEvent]) -> bool:
    return any(event.source == "AUTOSCALER" and event.message.startswith("Adding ") for event in events)


def _refused(events: Sequence[ClusterEvent]) -> list[dict[str, float]]:
    """What the autoscaler has said that no node type can take."""
    said = [event.message for event in events if "No available node types can fulfill" in event.message]
    return [
        resources for message in said for part in _BRACES.findall(message) if (resources := literal(part))
    ]
