"""What a recipe needs of a cluster: that it answers, knows us, runs what we run, and has room."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heliostat.config import Resources
from heliostat.control.answers import amounts
from heliostat.control.checks import Check, Question, ok, refused, skipped, warning
from heliostat.control.demand import Demand, read_demand, refuse_impossible
from heliostat.control.head import check_head
from heliostat.control.node_types import NodeType, in_words, room
from heliostat.control.nodes import Node, read_nodes
from heliostat.control.preflight_place import Setting, check_workspace_from
from heliostat.control.preflight_training import judge_memory, machine
from heliostat.control.ray_api import RayApi
from heliostat.errors import ConfigError, ModelError
from heliostat.planning import plan_run
from heliostat.recipe import PruneStep, Recipe, Training

CLUSTER_SECONDS = 7.0


@dataclass(frozen=True)
class Wanted:
    """What one part of a recipe asks of a cluster: so many times these resources, at the same time."""

    key: str
    each: Resources
    count: int = 1

    @property
    def amounts(self) -> dict[str, float]:
        """The resources under Ray's names, without those that are 0."""
        named = {"CPU": self.each.num_cpus, "GPU": self.each.num_gpus, "memory": self.each.memory_bytes or 0}
        return {name: float(amount) for name, amount in named.items() if amount}


def cluster_questions(setting: Setting, node_types: Sequence[NodeType] = ()) -> list[Question]:
    """The checks of this file; none without an address."""
    address = setting.address
    if address is None:
        return []
    return [Question("cluster", lambda: check_cluster(setting, address, node_types), CLUSTER_SECONDS)]


def check_cluster(setting: Setting, address: str, node_types: Sequence[NodeType] = ()) -> list[Check]:
    """One after the other: who does not answer, or does not know us, is asked no more.

    `node_types` are the autoscaler's, with their limits, for who knows them; Ray does not tell.
    """
    head, checks = check_head(address)
    if head is None:
        return checks
    with RayApi(address) as api:
        nodes = [node for node in read_nodes(api) if node.alive]
        demand = demand_there(api, node_types)
    names = {node.name for node in nodes}
    checks += check_resources(setting.recipe, demand)
    for run in setting.recipe.trainings:
        checks += memory_there(setting, run, nodes, demand.autoscaler)
    return [*checks, check_workspace_from(setting, names, socket.gethostname())]


def demand_there(api: RayApi, node_types: Sequence[NodeType] = ()) -> Demand:
    """What the cluster has and may have. For some seconds after its start a head tells its autoscaler of no
    resources, and would seem to have none: then Ray's list of nodes is asked.

    Raises:
        ClusterError: as `read_demand`.
    """
    demand = read_demand(api, node_types)
    if any(each.resources for each in demand.node_types):
        return demand
    rows = [row for row in api.rows("nodes") if row.get("state") == "ALIVE"]
    seen = [(str(row.get("node_id")), amounts(row.get("resources_total"))) for row in rows]
    types = tuple(NodeType(name=name, resources=each, running=1) for name, each in seen if each)
    return demand.model_copy(update={"node_types": types})


def wanted_of(recipe: Recipe) -> list[Wanted]:
    """What a recipe's stages ask for, in their order."""
    found = [Wanted(f"data.resources of {stage.name}", stage.data.resources) for stage in recipe.pretrain]
    if recipe.data:
        found.append(Wanted("data.resources", recipe.data.resources))
    for run in recipe.trainings:
        found.append(Wanted(f"{run.name}.num_workers", run.train.resources_per_worker, run.train.min_workers))
        if run.train.validation and run.train.validation.by == "task":
            found.append(Wanted(f"{run.name}.validation.resources", run.train.validation.resources))
    if recipe.evaluate:
        found.append(Wanted("evaluate.resources", recipe.evaluate.resources))
    for step in recipe.compress:
        found.append(Wanted("compress.resources", step.resources))
        if isinstance(step, PruneStep) and step.heal:
            found.append(Wanted("heal.num_workers", step.heal.resources_per_worker, step.heal.min_workers))
    if recipe.serve:
        found.append(Wanted("serve.num_replicas", recipe.serve.resources, recipe.serve.least_replicas))
    return found


def check_resources(recipe: Recipe, demand: Demand) -> list[Check]:
    """Whether the cluster has, or could grow to, what each stage asks for; a line for each that it cannot."""
    checks = [check for wanted in wanted_of(recipe) if (check := _lacking(wanted, demand))]
    if checks:
        return checks
    return [ok("resources", f"the cluster has room for every stage: {_there(demand)}", there=_totals(demand))]


def _lacking(wanted: Wanted, demand: Demand) -> Check | None:
    asked = wanted.amounts
    if not asked or not wanted.count:
        return None
    facts: dict[str, Any] = {
        "key": wanted.key,
        "asked": asked,
        "count": wanted.count,
        "there": _totals(demand),
    }
    if not demand.node_types:
        return skipped("resources", f"{wanted.key}: the cluster tells of no nodes yet", **facts)
    why = refuse_impossible(demand, asked, wanted.count)
    if why:
        says, _, mend = why.rpartition("; ")
        return refused("resources", f"{wanted.key}: {says}", mend, **facts)
    now = [each.model_copy(update={"most": None, "starting": 0}) for each in demand.node_types]
    if room(asked, now) >= wanted.count:
        return None
    says = f"{wanted.key}: {wanted.count} x {in_words(asked)}; now there is room for {room(asked, now)}"
    if any(each.most is not None for each in demand.node_types):
        return ok("resources", f"{says}, and the autoscaler may start more", **facts)
    mend = "'heliostat cluster status' says why a demand waits; ask for less if no node type has it"
    return warning("resources", f"{says}, and Ray does not tell what the autoscaler may start", mend, **facts)


def _totals(demand: Demand) -> dict[str, float]:
    return {name: use.total for name, use in demand.used.items()}


def _there(demand: Demand) -> str:
    kinds = {"CPU", "GPU", "memory"}
    return in_words({name: amount for name, amount in _totals(demand).items() if name in kinds})


def memory_there(setting: Setting, run: Training, nodes: Sequence[Node], grows: bool) -> list[Check]:
    """A worker's memory against the largest node, or its GPUs; nothing where none is seen."""
    name = f"memory of {run.name} there"
    node = _largest(run, nodes)
    if node is None:
        return []
    here = machine("the largest node", run, *node)
    try:
        plan = plan_run(setting.recipe, run, setting.workspace, (here,))
    except (ModelError, ConfigError):  # the checks without a cluster say so
        return []
    check = judge_memory(name, plan, here, {})
    if grows and check.status == "refused":
        return [warning(name, f"{check.says}, of those that are there now", check.mend, **check.facts)]
    return [check]


def _largest(run: Training, nodes: Sequence[Node]) -> tuple[int, int, int | None] | None:
    """Workers that share the node, its memory, and that of one of its GPUs; of the node with most of it."""
    found: list[tuple[int, int, int | None]] = []
    for node in nodes:
        if not node.memory_total_bytes:
            continue
        if run.train.use_gpu:
            gpus = [each.memory_total_bytes for each in node.gpus if each.memory_total_bytes]
            found += [(len(gpus), node.memory_total_bytes, min(gpus))] if gpus else []
        else:
            workers = int((node.cpus_total or 0) / run.train.cpus_per_worker)
            found += [(min(workers, run.train.max_workers), node.memory_total_bytes, None)] if workers else []
    return max(found, key=lambda each: each[2] or each[1] // each[0], default=None)
