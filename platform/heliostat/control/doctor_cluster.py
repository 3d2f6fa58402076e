"""A cluster as it can be seen from here: its head, token, versions, nodes, clocks and autoscaler."""

import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

from heliostat.control.answers import mapping, mappings, number, text
from heliostat.control.checks import Check, of_error, ok, refused, warning
from heliostat.control.demand import read_demand
from heliostat.control.doctor_deep import deep_checks
from heliostat.control.head import MOST_SKEW_SECONDS, check_head
from heliostat.control.node_types import in_words
from heliostat.control.nodes import Node, read_nodes
from heliostat.control.ray_api import RayApi
from heliostat.errors import ClusterError
from heliostat.workspace import Workspace

MOST_AGE_SECONDS = 60.0
"""A node's report is some seconds old; one that seems older is of a clock behind, or of a node that hangs."""
FULL_DISK, TOO_FULL_DISK = 0.9, 0.95


def cluster_checks(address: str, workspace: Workspace, deep: bool) -> list[Check]:
    """One after the other: who does not answer, or does not know us, is asked no more."""
    head, checks = check_head(address)
    if head is None:
        return checks
    try:
        with RayApi(address) as api:
            nodes, demand = read_nodes(api), read_demand(api)
            summary = mapping(api.get("/nodes", "listing nodes", view="summary", nocache=1), "data")
        checks += check_nodes(nodes)
        checks += check_node_clocks(list(mappings(summary.get("summary"))), time.time())
        if demand.error:
            mend = "look into the autoscaler's log on the head (monitor.log)"
            checks.append(refused("autoscaler", f"the autoscaler fails: {demand.error}", mend))
        checks += [
            warning("waiting", f"{each.count} {each.kind}(s) wait for {each.asked}: {each.why}", None)
            for each in demand.waiting
        ]
        checks += deep_checks(address, workspace) if deep else [_shallow(workspace, nodes)]
    except ClusterError as error:
        checks += of_error("cluster", error)
    return checks


def check_nodes(nodes: Sequence[Node]) -> list[Check]:
    """Which nodes are there, which are lost, and whose disk is full."""
    alive = [node for node in nodes if node.alive]
    totals: dict[str, float] = {}
    for node in alive:
        for name in ("CPU", "GPU", "memory"):
            totals[name] = totals.get(name, 0.0) + node.resources.get(name, 0.0)
    there = {name: amount for name, amount in totals.items() if amount}
    checks = [ok("nodes", f"{len(alive)} node(s) with {in_words(there)}", alive=len(alive), total=there)]
    for node in nodes:
        if not node.alive and node.state_message and "expected" not in node.state_message.lower():
            mend = "start it again; 'heliostat cluster status' says what it held"
            checks.append(
                warning("nodes", f"{_name(node)} is gone: {node.state_message}", mend, node=node.id)
            )
    return [*checks, *(found for node in alive if (found := _disk(node)))]


def _disk(node: Node) -> Check | None:
    if not node.disk_total_bytes or node.disk_used_bytes is None:
        return None
    share = node.disk_used_bytes / node.disk_total_bytes
    if share <= FULL_DISK:
        return None
    mend = "free some space there; old sessions below /tmp/ray are the first to look at"
    judge = refused if share > TOO_FULL_DISK else warning
    return judge("nodes", f"the disk of {_name(node)} is {share:.0%} full", mend, node=node.id, share=share)


def check_node_clocks(summary: Sequence[Mapping[str, Any]], now: float) -> list[Check]:
    """The time at which each node says it made its last report, against this machine's."""
    checks = []
    for entry in summary:
        said = number(entry.get("now"))
        if said is None or text(mapping(entry, "raylet").get("state")) not in ("ALIVE", ""):
            continue
        name = text(entry.get("hostname")) or text(entry.get("ip"))
        ahead = said - now
        if ahead > MOST_SKEW_SECONDS:
            says = f"the clock of {name} is {ahead:,.0f} s ahead of this machine's"
        elif ahead < -MOST_AGE_SECONDS:
            says = f"the last report of {name} is {-ahead:,.0f} s old, by its clock"
        else:
            continue
        mend = "let its time be kept by NTP (timedatectl set-ntp true), or look whether its Ray hangs"
        checks.append(warning("clocks", says, mend, node=name, ahead_seconds=round(ahead, 1)))
    return checks


def _shallow(workspace: Workspace, nodes: Sequence[Node]) -> Check:
    """Whether the nodes may see the workspace, as far as that can be told without asking them."""
    own = socket.gethostname()
    others = sorted({node.name for node in nodes if node.alive and node.name} - {own})
    name, root = "shared storage", workspace.storage.root
    if workspace.storage.remote or not others:
        what = "is a URI" if workspace.storage.remote else "is on the machine that all nodes are on"
        return ok(name, f"{root} {what}")
    mend = "'heliostat doctor --deep' writes and reads a file on every node"
    return warning(name, f"{root} is a local path, and {', '.join(others[:3])} may not see it", mend)


def _name(node: Node) -> str:
    return node.name or node.ip or node.id[-8:]
