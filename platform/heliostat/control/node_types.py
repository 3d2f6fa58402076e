"""Node types: what a cluster's nodes look like, how many it may have, whether a demand can ever fit them."""

import json
import math
import os
from collections.abc import Mapping, Sequence

from heliostat.control.answers import amounts, mapping, text, whole
from heliostat.ray_session import NODE_TYPES_VARIABLE
from heliostat.records import Record

UNLIMITED = 1_000_000


class NodeType(Record):
    """A kind of node. `most` is None where Ray does not tell, `resources` empty where none was ever seen."""

    name: str
    resources: dict[str, float]
    fewest: int | None = None
    most: int | None = None
    running: int = 0
    starting: int = 0

    @property
    def possible(self) -> int:
        """How many there may be: what is known, else what is there (without a limit it cannot grow)."""
        return max(self.running + self.starting, self.most or 0)


def told_node_types() -> tuple[NodeType, ...]:
    """What HELIOSTAT_NODE_TYPES says, `{"train": {"resources": {"CPU": 8}, "most": 4}}`; nothing where it
    cannot be read."""
    try:
        types = mapping(json.loads(os.environ.get(NODE_TYPES_VARIABLE) or "{}"))
    except ValueError:
        return ()
    return tuple(
        NodeType(
            name=text(name),
            resources=amounts(mapping(each).get("resources")),
            fewest=whole(mapping(each).get("fewest")),
            most=whole(mapping(each).get("most")),
        )
        for name, each in types.items()
    )


def fits(asked: Mapping[str, float], there: Mapping[str, float]) -> bool:
    """Whether an empty node with these resources could take this. Marks of nodes are passed over."""
    return all(_of(there, name) >= amount for name, amount in asked.items() if counts(name))


def counts(name: str) -> bool:
    """Whether a resource is an amount that nodes have, not the mark of a node or of a placement group."""
    return not name.startswith("node:") and "_group_" not in name and name != "bundle"


def room(asked: Mapping[str, float], types: Sequence[NodeType]) -> int:
    """How many of this could run at once on all nodes that there may ever be."""
    if any(each.possible and not each.resources for each in types):
        return UNLIMITED
    return sum(each.possible * _on_one(asked, each.resources) for each in types)


def never_fits(asked: Mapping[str, float], types: Sequence[NodeType]) -> str | None:
    """Why no node type could ever take this, in words; None where one could."""
    possible = [each for each in types if each.possible]
    if any(fits(asked, each.resources) or not each.resources for each in possible):
        return None  # of a type that nobody has told the resources of, anything may be hoped
    for name, amount in sorted(asked.items()):
        if not counts(name):
            continue
        most = max((_of(each.resources, name) for each in possible), default=0.0)
        if most < amount:
            largest = f"the largest node type has {amount_of(name, most)}" if most else "no node type has any"
            return f"asks for {amount_of(name, amount)}; {largest}"
    return f"asks for {in_words(asked)} on one node; no node type has all of it together"


def in_words(asked: Mapping[str, float]) -> str:
    """`1 CPU and 8 GPUs`; memory in GiB."""
    parts = [amount_of(name, amount) for name, amount in sorted(asked.items()) if counts(name)]
    return " and ".join(parts) or "nothing"


def amount_of(name: str, amount: float) -> str:
    """`1 CPU`, `8 GPUs`, `4 GiB of memory`, `2 of license`."""
    if "memory" in name.lower():
        kind = "memory" if name == "memory" else "object store"
        return f"{amount / 2**30:.3g} GiB of {kind}"
    if name in ("CPU", "GPU", "TPU"):
        return f"{amount:g} {name}" + ("" if amount == 1 else "s")
    return f"{amount:g} of {name}"


def camel(name: str) -> str:
    """A name as Ray's dashboard writes it when it is a key."""
    first, *others = name.split("_")
    return first + "".join(other.title() for other in others)


def _of(there: Mapping[str, float], name: str) -> float:
    """How much of a resource a node has, under its own name or the dashboard's. Node types are seldom told
    how much memory they have: then it is enough."""
    unknown = math.inf if name == "memory" else 0.0
    return there.get(name, there.get(camel(name), unknown))


def _on_one(asked: Mapping[str, float], there: Mapping[str, float]) -> int:
    """How many of this an empty node takes; without limit where nothing is asked."""
    each = [_of(there, name) / amount for name, amount in asked.items() if amount > 0 and counts(name)]
    return int(min([*each, UNLIMITED]) + 1e-9)
