"""What a person is told of a cluster, in words: `heliostat cluster status` and the page say the same."""

from collections.abc import Mapping

from heliostat.control.demand import Demand, Reason, Waiting
from heliostat.control.holders import Holder
from heliostat.control.nodes import Node

REMEDIES: Mapping[Reason, str] = {
    "impossible": "ask for less, or add a node type that has it",
    "starting": "wait for the nodes that are starting",
    "launch failed": "mend what kept the node from starting; it is tried again",
    "full": "stop something, wait for it to end, or allow more nodes of this type",
    "busy": "stop something, or wait for it to end",
    "deciding": "wait; it takes the autoscaler some seconds",
}
"""What would let it start, by why it waits."""


def short_id(node_id: str) -> str:
    """The end of a node's id: those of nodes started together often begin alike."""
    return node_id[-8:]


def part_of(used: float | None, total: float | None) -> str:
    """`3 of 8`; a question mark for what is not told, a dash where there is no total."""
    if total is None:
        return "-"
    return f"{'?' if used is None else f'{used:.3g}'} of {total:g}"


def gib_of(used: int | None, total: int | None) -> str:
    """`1.5 of 16.0 GiB`; a dash where it is not told."""
    if used is None or total is None:
        return "-"
    return f"{used / 2**30:.1f} of {total / 2**30:.1f} GiB"


def gone_line(node: Node) -> str:
    """What became of a node; empty of one that lives, or of which nothing is told."""
    told = not node.alive and node.state_message
    return f"{short_id(node.id)} is gone: {node.state_message}" if told else ""


def waiting_line(each: Waiting) -> str:
    """`2 tasks or actors for 1 GPU: WHY`."""
    return f"{each.count} {_plural(each.kind, each.count)} for {each.asked}: {each.why}"


def waiter_line(holder: Holder, demand: Demand) -> str:
    """Something that has no node yet, whose it is, and why."""
    job = f" of job {holder.job_id}" if holder.job_id else ""
    why = demand.why(holder.bundles or (holder.resources,))
    return f"{holder.kind} {holder.name}{job}" + (f": {why}" if why else "")


def scaling_lines(demand: Demand) -> list[str]:
    """What the autoscaler fails at, what it starts, and what did not come up."""
    lines = [f"The autoscaler fails: {demand.error}"] if demand.error else []
    lines += [
        f"Starting: {kind.starting} of type {kind.name}." for kind in demand.node_types if kind.starting
    ]
    return lines + [f"Not started: {each.node_type}: {each.reason}." for each in demand.failures]


def _plural(kind: str, count: int) -> str:
    return kind if count == 1 else " or ".join(f"{word}s" for word in kind.split(" or "))
