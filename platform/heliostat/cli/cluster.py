"""`heliostat cluster`: what a Ray cluster has, who holds it, what waits and why."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from heliostat.cli.columns import print_columns

if TYPE_CHECKING:
    from heliostat.control.demand import Demand
    from heliostat.control.holders import Holder
    from heliostat.control.nodes import Node

app = typer.Typer(
    help="See what a cluster has, who holds it, what waits and why.",
    rich_markup_mode=None,
    no_args_is_help=True,
)
Address = Annotated[str, typer.Option(help="The head node's dashboard, for example http://127.0.0.1:8265.")]


@app.callback()
def _group() -> None:
    pass


@app.command()
def status(
    address: Address,
    as_json: Annotated[bool, typer.Option("--json", help="Everything that is known, as JSON.")] = False,
) -> None:
    """Show the nodes, who holds their CPUs and GPUs, what waits and why."""
    from heliostat.control.ray_api import RayApi
    from heliostat.control.ray_state import read_demand, read_nodes, who_holds

    with RayApi(address) as api:
        nodes, demand, holders = read_nodes(api), read_demand(api), who_holds(api)
    if as_json:
        told = {
            "nodes": [node.model_dump(mode="json") for node in nodes],
            "demand": demand.model_dump(mode="json"),
            "holders": [holder.model_dump(mode="json") for holder in holders],
        }
        print(json.dumps(told, indent=2))
        return
    _print_nodes(nodes)
    print()
    _print_holders(nodes, [each for each in holders if not each.waits])
    print()
    _print_waiting(demand, [each for each in holders if each.waits])


def _print_nodes(nodes: Sequence["Node"]) -> None:
    heads = ("NODE", "GROUP", "HOST", "STATE", "CPUS", "GPUS", "BUSY", "MEMORY", "DISK", "GPU MEMORY")
    rows = [
        (
            _short(node.id),
            node.group or "-",
            node.name or node.ip,
            node.state.lower() or "-",
            _part(node.cpus_used, node.cpus_total),
            _part(node.gpus_used, node.gpus_total),
            "-" if node.cpu_percent is None else f"{node.cpu_percent:.0f} %",
            _gib(node.memory_used_bytes, node.memory_total_bytes),
            _gib(node.disk_used_bytes, node.disk_total_bytes),
            ", ".join(_gib(gpu.memory_used_bytes, gpu.memory_total_bytes) for gpu in node.gpus) or "-",
        )
        for node in nodes
    ]
    print_columns(heads, rows)
    for node in nodes:
        if not node.alive and node.state_message:
            print(f"{_short(node.id)} is gone: {node.state_message}")


def _print_holders(nodes: Sequence["Node"], holders: Sequence["Holder"]) -> None:
    if not holders:
        print("Nothing holds a CPU or a GPU.")
        return
    groups = {node.id: node.group for node in nodes}
    rows = [
        (
            _short(each.node_id) + (f" ({groups[each.node_id]})" if groups.get(each.node_id) else ""),
            f"{each.cpus:g}",
            f"{each.gpus:g}",
            each.job_id or "-",
            each.kind,
            each.name,
        )
        for each in holders
    ]
    print_columns(("HELD ON", "CPUS", "GPUS", "JOB", "KIND", "NAME"), rows)


def _print_waiting(demand: "Demand", holders: Sequence["Holder"]) -> None:
    if demand.error:
        print(f"The autoscaler fails: {demand.error}")
    if not demand.waiting:
        print("Nothing waits for resources.")
    for each in demand.waiting:
        count = f"{each.count} {each.kind}{'s' if each.count > 1 else ''}"
        print(f"Waiting: {count} for {each.asked}: {each.why}.")
    for holder in holders:
        job = f" of job {holder.job_id}" if holder.job_id else ""
        why = demand.why(holder.bundles or (holder.resources,))
        print(f"  {holder.kind} {holder.name}{job}" + (f": {why}" if why else ""))
    for kind in demand.node_types:
        if kind.starting:
            print(f"Starting: {kind.starting} of type {kind.name}.")
    for failure in demand.failures:
        print(f"Not started: {failure.node_type}: {failure.reason}.")


def _short(node_id: str) -> str:
    """The end of a node's id: those of nodes started together often begin alike."""
    return node_id[-8:]


def _part(used: float | None, total: float | None) -> str:
    if total is None:
        return "-"
    return f"{'?' if used is None else f'{used:.3g}'} of {total:g}"


def _gib(used: int | None, total: int | None) -> str:
    if used is None or total is None:
        return "-"
    return f"{used / 2**30:.1f} of {total / 2**30:.1f} GiB"
