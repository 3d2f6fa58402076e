"""How much of the cluster was in use over the last day: a line every half minute, from its noted nodes.

Ray forgets; its own dashboard shows only now, and Prometheus is not everywhere.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, insert, select

from heliostat.control.nodes import Node
from heliostat.control.readings import Reading, take
from heliostat.control.store import Store
from heliostat.control.tables import samples
from heliostat.records import Record

EVERY_SECONDS = 30.0
KEPT = timedelta(hours=24)
_KIND = "cluster"


class ClusterUse(Record):
    """What all nodes that are alive have, and how much of it is given out or in use; None is "not told"."""

    at: datetime
    num_nodes: int
    cpus_used: float | None
    cpus_total: float | None
    gpus_used: float | None
    gpus_total: float | None
    memory_share: float | None
    """Of all nodes' memory, 0 to 1."""
    gpu_utilisation: float | None
    """The mean over all GPUs, 0 to 1."""


def use_of(nodes: Sequence[Node], at: datetime) -> ClusterUse:
    """The use of a cluster by its nodes."""
    alive = [node for node in nodes if node.alive]
    memory = [
        (node.memory_used_bytes, node.memory_total_bytes)
        for node in alive
        if node.memory_used_bytes is not None and node.memory_total_bytes
    ]
    busy = [gpu.utilisation for node in alive for gpu in node.gpus if gpu.utilisation is not None]
    return ClusterUse(
        at=at,
        num_nodes=len(alive),
        cpus_used=_sum([node.cpus_used for node in alive]),
        cpus_total=_sum([node.cpus_total for node in alive]),
        gpus_used=_sum([node.gpus_used for node in alive]),
        gpus_total=_sum([node.gpus_total for node in alive]),
        memory_share=sum(used for used, _ in memory) / sum(total for _, total in memory) if memory else None,
        gpu_utilisation=sum(busy) / len(busy) / 100 if busy else None,
    )


def note_use(store: Store, use: ClusterUse, subject: str) -> None:
    """Keep a line of the cluster at the address `subject`; what is older than a day goes.

    Raises:
        StoreError: the database is away.
    """
    measures = use.model_dump(mode="json", exclude={"at"})
    with store.begin() as connection:
        connection.execute(insert(samples).values(kind=_KIND, subject=subject, at=use.at, measures=measures))
        connection.execute(delete(samples).where(samples.c.at < datetime.now(UTC) - KEPT))


def read_course(store: Store, subject: str, hours: float = 24.0) -> Reading[tuple[ClusterUse, ...]]:
    """The lines of the last hours, the oldest first; () where nobody was watching."""
    return take(lambda: _read(store, subject, datetime.now(UTC) - timedelta(hours=hours)))


def _read(store: Store, subject: str, since: datetime) -> tuple[ClusterUse, ...]:
    wanted = (
        select(samples.c.at, samples.c.measures)
        .where(samples.c.kind == _KIND, samples.c.subject == subject, samples.c.at >= since)
        .order_by(samples.c.at)
    )
    with store.begin() as connection:
        rows = connection.execute(wanted).all()
    return tuple(ClusterUse(at=row.at, **row.measures) for row in rows)


def _sum(amounts: Sequence[float | None]) -> float | None:
    told = [amount for amount in amounts if amount is not None]
    return sum(told) if told else None
