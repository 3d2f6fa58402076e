"""A cluster's nodes: a card each with bars, the dead dimmed with the reason, and all of them as a table."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from dashboard.parts.pieces import status_badge, status_text
from dashboard.parts.table import table
from dashboard.parts.text import ago, moment, number, plain, size
from dashboard.session import current_translator, time_zone
from heliostat.control.cluster_words import short_id
from heliostat.control.nodes import GpuState, Node

CARDS = 24
"""So many nodes have a card; the table has all."""
DEAD_CARDS = 6

Write = Callable[[float | None], str]


def node_cards(nodes: Sequence[Node]) -> None:
    """Those alive, then the latest of the dead."""
    alive, dead = [each for each in nodes if each.alive], [each for each in nodes if not each.alive]
    shown = [*alive[:CARDS], *dead[:DEAD_CARDS]]
    with st.grid(min_column_width=300):
        for node in shown:
            with st.container(border=True, height="stretch", gap="xsmall"):
                _card(node) if node.alive else _dead_card(node)
    if len(shown) < len(nodes):
        st.caption(current_translator()("cluster.more_nodes", shown=len(shown), of=len(nodes)))


def node_table(nodes: Sequence[Node]) -> None:
    """All of them, every figure."""
    t = current_translator()
    zone = time_zone()
    rows: list[dict[str, Any]] = [
        {
            t("cluster.col.node"): short_id(node.id),
            t("cluster.col.name"): node.name,
            t("cluster.col.address"): node.ip,
            t("cluster.col.role"): _role(node),
            t("cluster.col.state"): _state(node),
            t("cluster.cpus"): _of(node.cpus_used, node.cpus_total),
            t("cluster.gpus"): _of(node.gpus_used, node.gpus_total),
            t("cluster.busy"): None if node.cpu_percent is None else f"{node.cpu_percent:.0f} %",
            t("cluster.memory"): _of(node.memory_used_bytes, node.memory_total_bytes, size),
            t("cluster.disk"): _of(node.disk_used_bytes, node.disk_total_bytes, size),
            t("cluster.store"): _of(node.object_store_used_bytes, node.object_store_total_bytes, size),
            t("cluster.col.since"): moment(node.started_at, zone),
            t("cluster.col.ended"): moment(node.ended_at, zone),
            t("cluster.col.why"): node.state_message,
        }
        for node in nodes
    ]
    table(rows, key="cluster_nodes", alt=t("cluster.nodes"))


def _card(node: Node) -> None:
    t = current_translator()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(node.name or node.ip or short_id(node.id), width="stretch")
        status_badge("alive")
    up = [t("cluster.up", ago=_ago(node.started_at))] if node.started_at else []
    st.caption(" · ".join([*_who(node), *up]))
    _bar(t("cluster.cpus"), node.cpus_used, node.cpus_total)
    if node.cpu_percent is not None:
        st.progress(_share(node.cpu_percent, 100), text=f"{t('cluster.busy')}: {node.cpu_percent:.0f} %")
    if node.gpus_total:
        _bar(t("cluster.gpus"), node.gpus_used, node.gpus_total)
    for gpu in node.gpus:
        _gpu(gpu)
    _bar(t("cluster.memory"), node.memory_used_bytes, node.memory_total_bytes, size)
    _bar(t("cluster.disk"), node.disk_used_bytes, node.disk_total_bytes, size)
    if node.object_store_total_bytes:
        _bar(t("cluster.store"), node.object_store_used_bytes, node.object_store_total_bytes, size)


def _dead_card(node: Node) -> None:
    t = current_translator()
    with st.container(horizontal=True, vertical_alignment="center"):
        name = plain(node.name or node.ip or short_id(node.id))
        st.markdown(f":gray[{name}]", width="stretch")
        status_badge("dead")
    gone = [t("cluster.gone", ago=_ago(node.ended_at))] if node.ended_at else []
    st.caption(" · ".join([*_who(node), *gone]))
    st.caption(plain(node.state_message) or t("cluster.gone_why"))


def _gpu(gpu: GpuState) -> None:
    """Its memory as the bar: what a model does not fit into matters more than how busy it is."""
    t = current_translator()
    name = plain(f"GPU {'' if gpu.index is None else gpu.index} {gpu.name}")
    told = [_of(gpu.memory_used_bytes, gpu.memory_total_bytes, size)]
    if gpu.utilisation is not None:
        told.append(t("cluster.at_work", percent=f"{gpu.utilisation:.0f}"))
    if gpu.temperature_celsius is not None:
        told.append(f"{gpu.temperature_celsius:.0f} °C")
    st.progress(_share(gpu.memory_used_bytes, gpu.memory_total_bytes), text=f"{name}: {', '.join(told)}")


def _bar(label: str, used: float | None, total: float | None, write: Write = number) -> None:
    told = f"{label}: {_of(used, total, write)}"
    if total is None:  # an empty bar would look like nothing in use
        st.caption(told)
    else:
        st.progress(_share(used, total), text=told)


def _share(used: float | None, total: float | None) -> float:
    return min(1.0, max(0.0, used / total)) if used is not None and total else 0.0


def _of(used: float | None, total: float | None, write: Write = number) -> str:
    t = current_translator()
    if total is None:
        return t("cluster.not_told")
    return t("cluster.of", used="?" if used is None else write(used), total=write(total))


def _who(node: Node) -> list[str]:
    return [plain(each) for each in (node.ip, _role(node), short_id(node.id)) if each]


def _role(node: Node) -> str:
    t = current_translator()
    if node.is_head:
        return t("cluster.head") if node.group in ("", "head") else f"{t('cluster.head')}, {node.group}"
    return node.group or t("cluster.worker")


def _state(node: Node) -> str:
    """Ray's word, where it is one of its two; else as it is."""
    return status_text(node.state) if node.state else status_text("alive" if node.alive else "dead")


def _ago(at: datetime) -> str:
    return ago(current_translator(), (datetime.now(UTC) - at).total_seconds())
