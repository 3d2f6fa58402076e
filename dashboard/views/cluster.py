"""Cluster: its nodes, who holds them, what waits and why, what it may grow to, what Ray Serve runs."""

from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st
from dashboard.parts.cluster_course import cluster_course
from dashboard.parts.cluster_demand import event_table, node_types, waiting_list
from dashboard.parts.cluster_nodes import node_cards, node_table
from dashboard.parts.pieces import Tile, command_line, status_badge, status_text, tiles
from dashboard.parts.states import STALE_SECONDS, age, empty, health_banner, noted
from dashboard.parts.table import table
from dashboard.parts.text import number, plain
from dashboard.session import current

from heliostat.control.cluster_course import EVERY_SECONDS
from heliostat.control.cluster_words import short_id
from heliostat.control.collector import (
    read_cluster,
    read_noted_demand,
    read_noted_holders,
    read_noted_nodes,
    read_noted_serve,
)
from heliostat.control.demand import Demand
from heliostat.control.holders import Holder
from heliostat.control.holdings import Holding, Owner, endpoints_by_application, read_holdings
from heliostat.control.nodes import Node
from heliostat.control.readings import Ok, Reading, Unavailable, latest
from heliostat.control.serve_state import ServeApplication, ServeDeployment, ServeState
from heliostat.control.shown_commands import address_words, command_on
from heliostat.text.concealing import without_secrets

UP_LOCAL = ("heliostat", "cluster", "up", "local", "--nodes", "3")
ROWS = 30
_PAGES = {"job": ("run", "run"), "sweep": ("sweeps", "sweep"), "endpoint": ("endpoints", "endpoint")}
"""An owner's page, and what that calls it in its address."""
_ICONS = {
    "job": "play_circle",
    "sweep": "tune",
    "endpoint": "lan",
    "application": "deployed_code",
    "driver": "terminal",
}

session = current()
t = session.t
site = session.site


def connection(reading: Reading[str]) -> None:
    """Where the cluster is, whether it answers, and how old what is shown is where it does not."""
    health_banner(reading)
    if isinstance(reading, Unavailable):
        age(reading)
    elif reading.age_seconds <= STALE_SECONDS:
        st.markdown(f":green[:material/check_circle:] {t('cluster.answers')}")
    last = latest(reading)
    version = t("cluster.ray", version=last.value) if last else ""
    st.text(" · ".join(filter(None, (without_secrets(site.address or ""), version))))


def nothing_known() -> None:
    """Why there is nothing to see, and the one thing to do."""
    empty(t("cluster.none_set") if site.address is None else t("cluster.none_yet"))
    st.code(command_on(site, *UP_LOCAL), language="bash", wrap_lines=True)


def figures(nodes: Sequence[Node], demand: Demand | None, serve: ServeState | None) -> None:
    """What there is and what of it is given out."""
    alive = [node for node in nodes if node.alive]
    shown = [Tile(t("cluster.nodes"), t("cluster.of", used=len(alive), total=len(nodes)))]
    for name, used, total in (
        ("cluster.cpus", [each.cpus_used for each in alive], [each.cpus_total for each in alive]),
        ("cluster.gpus", [each.gpus_used for each in alive], [each.gpus_total for each in alive]),
    ):
        there = sum(filter(None, total))
        if there:
            value = t("cluster.of", used=number(sum(filter(None, used))), total=number(there))
            shown.append(Tile(t(name), value))
    if demand is not None:
        shown.append(Tile(t("cluster.waiting"), sum(each.count for each in demand.waiting)))
    if serve is not None:
        shown.append(Tile(t("cluster.applications"), len(serve.applications)))
    tiles(shown)


def nodes_part(nodes: Sequence[Node]) -> None:
    """A card for each, and the table behind a toggle."""
    if not nodes:
        st.caption(t("cluster.no_nodes"))
        return
    if st.toggle(t("cluster.as_table"), key="cluster_nodes_as_table"):
        node_table(nodes)
    else:
        node_cards(nodes)


def holders_part(nodes: Sequence[Node], holders: Sequence[Holder]) -> None:
    """Whose work holds what, with the way to it."""
    held = [each for each in holders if not each.waits]
    if not held:
        st.caption(t("cluster.nothing_held"))
        return
    names = {node.id: node.name or node.ip for node in nodes}
    if st.toggle(t("cluster.as_table"), key="cluster_holders_as_table"):
        _holders_table(held, names)
        return
    holdings = noted(read_holdings(site, held)) or ()
    for number_of_row, holding in enumerate(holdings[:ROWS]):
        _holding(number_of_row, holding, names)
    if len(holdings) > ROWS:
        st.caption(t("cluster.more_holders", shown=ROWS, of=len(holdings)))


def _holding(row: int, holding: Holding, names: dict[str, str]) -> None:
    with st.container(
        border=True, horizontal=True, vertical_alignment="center", key=f"cluster_holding_{row}"
    ):
        _owner(holding.owner)
        on = ", ".join(names.get(node) or short_id(node) for node in holding.nodes)
        st.text(t("cluster.holds", cpus=number(holding.cpus), gpus=number(holding.gpus)), width="content")
        st.caption(plain(" · ".join(filter(None, (on, holding.owner.user)))), width="content")


def _owner(owner: Owner) -> None:
    """Its name, which leads to its page where it has one."""
    name = owner.name or t("cluster.nobody")
    icon = f":material/{_ICONS[owner.kind]}:"
    if owner.kind in _PAGES:
        page, key = _PAGES[owner.kind]
        st.page_link(
            f"views/{page}.py", label=plain(name), icon=icon, query_params={key: owner.id}, width="stretch"
        )
    else:
        st.markdown(f"{icon} {plain(name)}", width="stretch")


def _holders_table(holders: Sequence[Holder], names: dict[str, str]) -> None:
    rows: list[dict[str, Any]] = [
        {
            t("cluster.col.node"): names.get(each.node_id) or short_id(each.node_id),
            t("cluster.cpus"): each.cpus,
            t("cluster.gpus"): each.gpus,
            t("cluster.col.job"): each.job_id,
            t("cluster.col.kind"): each.kind,
            t("cluster.col.name"): each.name,
        }
        for each in holders
    ]
    table(rows, key="cluster_holders", alt=t("cluster.holders"))


def demand_part(demand: Demand, holders: Sequence[Holder]) -> None:
    """What waits, then what there may be and what was told."""
    waiting_list(demand, [each for each in holders if each.waits])
    st.subheader(t("cluster.types"), anchor=False)
    node_types(demand.node_types, demand.autoscaler)
    with st.expander(t("cluster.events"), icon=":material/history:"):
        event_table(demand.events)


def serve_part(serve: ServeState) -> None:
    """The applications and their deployments."""
    if not serve.applications:
        st.caption(t("cluster.serve_idle") if serve.running else t("cluster.serve_off"))
        return
    if st.toggle(t("cluster.as_table"), key="cluster_serve_as_table"):
        _serve_table(serve.applications)
        return
    endpoints = endpoints_by_application(site)
    for app in serve.applications:
        with st.container(border=True, gap="xsmall"):
            _application(app, endpoints.get(app.name, ""))


def _application(app: ServeApplication, endpoint: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        _owner(Owner("endpoint" if endpoint else "application", endpoint, app.name))
        status_badge(app.status)
    if app.message:
        st.text(app.message)
    for each in app.deployments:
        line = t(
            "cluster.deployment", name=each.name, now=each.replicas_now, target=_told(each.replicas_target)
        )
        st.text(f"{line}: {each.why}" if each.why else line)


def _serve_table(applications: Sequence[ServeApplication]) -> None:
    rows = [_serve_row(app, each) for app in applications for each in app.deployments]
    table(rows, key="cluster_serve", alt=t("cluster.serve"))


def _serve_row(app: ServeApplication, each: ServeDeployment) -> dict[str, Any]:
    return {
        t("cluster.col.application"): app.name,
        t("cluster.col.deployment"): each.name,
        t("cluster.col.state"): status_text(each.status),
        t("cluster.col.replicas"): each.replicas_now,
        t("cluster.col.target"): each.replicas_target,
        t("cluster.col.fewest"): each.fewest_replicas,
        t("cluster.col.most"): each.most_replicas,
        t("cluster.col.why"): each.why,
    }


def _told(value: int | None) -> str:
    return "–" if value is None else str(value)


@st.fragment(run_every="4s")
def live() -> None:
    """All that changes by itself, from what the collector noted."""
    cluster = read_cluster(site.store)
    readings: tuple[Reading[Any], ...] = (
        read_noted_nodes(site.store),
        read_noted_demand(site.store),
        read_noted_holders(site.store),
        read_noted_serve(site.store),
    )
    never = site.address is None or not isinstance(cluster, Ok)
    if never and not any(latest(each) for each in (cluster, *readings)):
        nothing_known()
        if isinstance(cluster, Unavailable):
            st.caption(plain(cluster.reason))
        return
    connection(cluster)
    nodes, demand, holders, serve = map(latest, readings)
    there = nodes.value if nodes else ()
    figures(there, demand.value if demand else None, serve.value if serve else None)
    parts: tuple[tuple[str, Callable[[Any], None]], ...] = (
        ("nodes", nodes_part),
        ("waiting", lambda value: demand_part(value, holders.value if holders else ())),
        ("holders", lambda value: holders_part(there, value)),
        ("serve", serve_part),
    )
    for (name, draw), reading in zip(parts, readings, strict=True):
        st.subheader(t(f"cluster.{name}"), anchor=False)
        value = noted(reading, cluster)
        if value is not None:
            draw(value)


st.title(t("app.page.cluster"))
live()
st.fragment(cluster_course, run_every=f"{EVERY_SECONDS:g}s")(session)
command_line("heliostat", "cluster", "status", *address_words(site))
