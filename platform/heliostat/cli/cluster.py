"""`heliostat cluster`: what a Ray cluster has, who holds it, what waits and why; and one on this machine."""

import json
import signal
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from heliostat.cli.arguments import Address, WorkspaceRoot
from heliostat.cli.columns import print_columns

if TYPE_CHECKING:
    from heliostat.control.demand import Demand
    from heliostat.control.holders import Holder
    from heliostat.control.local_cluster import LocalCluster
    from heliostat.control.nodes import Node

app = typer.Typer(
    help="See what a cluster has, who holds it, what waits and why; start one on this machine.",
    rich_markup_mode=None,
    no_args_is_help=True,
)
Where = Annotated[str, typer.Argument(metavar="local", help="Where: local is this machine.")]


@app.command()
def up(
    where: Where,
    nodes: Annotated[int, typer.Option(help="Nodes, the head with them.")] = 1,
    cpus_per_node: Annotated[
        int | None, typer.Option("--cpus-per-node", help="Default: each its share of this machine's.")
    ] = None,
    autoscale: Annotated[
        bool, typer.Option("--autoscale", help="Start the head only; others come and go as work waits.")
    ] = False,
    idle_seconds: Annotated[
        float, typer.Option("--idle-seconds", min=1, help="With --autoscale: how long an idle node stays.")
    ] = 60,
    port: Annotated[int, typer.Option(help="The dashboard's; when taken, the next free one.")] = 8265,
    detach: Annotated[bool, typer.Option("--detach", help="Leave it running and come back.")] = False,
    workspace: WorkspaceRoot = None,
) -> None:
    """Start a real Ray cluster on this machine, until Ctrl-C; it takes jobs from here only, with a token."""
    from heliostat.control.local_cluster import start_local_cluster
    from heliostat.control.local_nodes import LocalSettings

    _check_where(where)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    settings = LocalSettings(port=port, idle_seconds=idle_seconds)
    try:
        cluster = start_local_cluster(nodes, cpus_per_node, autoscale, workspace, settings, _say)
        _show_way_in(cluster)
        if not detach:
            _stay_until_interrupted(cluster)
    except KeyboardInterrupt:
        _say("interrupted; nothing is left of the cluster")
        raise typer.Exit(130) from None


@app.command()
def down(where: Where) -> None:
    """End the cluster on this machine: exactly the processes that were started for it."""
    from heliostat.control.local_cluster import stop_local_cluster

    _check_where(where)
    ended = stop_local_cluster()
    print("no local cluster runs" if ended is None else f"ended the local cluster at {ended.address}")


def _check_where(where: str) -> None:
    from heliostat.errors import ConfigError

    if where != "local":
        raise ConfigError(
            f"'{where}': only 'local' is started from here; see cluster/README.md for machines and clouds"
        )


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _say(line: str) -> None:
    print(f"heliostat: {line}", file=sys.stderr, flush=True)


def _show_way_in(cluster: "LocalCluster") -> None:
    head = f"Ray with {cluster.nodes} node{'s' if cluster.nodes > 1 else ''} at {cluster.address}"
    grows = " (the head now, the others when work waits for them)" if cluster.node_types else ""
    exports = "\n".join(f"  export {name}={value}" for name, value in cluster.environment().items())
    print(
        f"{head}{grows}, process {cluster.pids[0]}\nIn another shell:\n{exports}\n"
        f"  heliostat submit jobs/recipes/quickstart.yaml --address {cluster.address}\n"
        f"  heliostat cluster status --address {cluster.address}\n"
        "  heliostat cluster down local",
        flush=True,
    )


def _stay_until_interrupted(cluster: "LocalCluster") -> None:
    from heliostat.control.local_cluster import find_local_cluster

    try:
        while cluster.alive:
            time.sleep(0.5)
    except KeyboardInterrupt:
        _say("ending the cluster")
        cluster.stop()
        raise
    there = find_local_cluster()
    if there is None or there.mark != cluster.mark:
        cluster.stop()
        _say("the cluster was ended")


@app.command()
def status(
    address: Address = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything that is known, as JSON.")] = False,
) -> None:
    """Show the nodes, who holds their CPUs and GPUs, what waits and why."""
    from heliostat.control.ray_api import RayApi
    from heliostat.control.ray_state import read_demand, read_nodes, who_holds
    from heliostat.control.sites import address_of

    with RayApi(address_of(address)) as api:
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
    from heliostat.control.cluster_words import gib_of, gone_line, part_of, short_id

    heads = ("NODE", "GROUP", "HOST", "STATE", "CPUS", "GPUS", "BUSY", "MEMORY", "DISK", "GPU MEMORY")
    rows = [
        (
            short_id(node.id),
            node.group or "-",
            node.name or node.ip,
            node.state.lower() or "-",
            part_of(node.cpus_used, node.cpus_total),
            part_of(node.gpus_used, node.gpus_total),
            "-" if node.cpu_percent is None else f"{node.cpu_percent:.0f} %",
            gib_of(node.memory_used_bytes, node.memory_total_bytes),
            gib_of(node.disk_used_bytes, node.disk_total_bytes),
            ", ".join(gib_of(gpu.memory_used_bytes, gpu.memory_total_bytes) for gpu in node.gpus) or "-",
        )
        for node in nodes
    ]
    print_columns(heads, rows)
    for line in filter(None, map(gone_line, nodes)):
        print(line)


def _print_holders(nodes: Sequence["Node"], holders: Sequence["Holder"]) -> None:
    from heliostat.control.cluster_words import short_id

    if not holders:
        print("Nothing holds a CPU or a GPU.")
        return
    groups = {node.id: node.group for node in nodes}
    rows = [
        (
            short_id(each.node_id) + (f" ({groups[each.node_id]})" if groups.get(each.node_id) else ""),
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
    from heliostat.control.cluster_words import REMEDIES, scaling_lines, waiter_line, waiting_line

    if not demand.waiting:
        print("Nothing waits for resources.")
    for each in demand.waiting:
        print(f"Waiting: {waiting_line(each)}. What would help: {REMEDIES[each.reason]}.")
    for holder in holders:
        print(f"  {waiter_line(holder, demand)}")
    for line in scaling_lines(demand):
        print(line)
