"""Models: versions and aliases; one in detail with its lineage, its card, and moving it on or back."""

import streamlit as st
from dashboard.charts.lineage import GraphNode, height_of, lineage_chart
from dashboard.parts.chart import chart
from dashboard.parts.links import back, go, has_page, open_here, section
from dashboard.parts.pieces import Tile, command_line, confirm, tiles
from dashboard.parts.promoting import ask_to_promote, ask_to_register
from dashboard.parts.states import empty, unavailable
from dashboard.parts.table import table
from dashboard.parts.text import moment, number, plain, size
from dashboard.session import current, time_zone
from dashboard.studies import events_of, lineage_of, model_card_of, models_of

from heliostat.control.models import (
    LineageGraph,
    Models,
    VersionRow,
    remove_version,
    role_for,
    roll_back_alias,
)
from heliostat.control.readings import Unavailable
from heliostat.control.shown_commands import command_on
from heliostat.versions.names import ALIASES, Alias

SECTIONS = ("overview", "lineage", "card", "history")
ALIAS_COLOURS = {"production": "green", "staging": "orange", "candidate": "blue"}
KINDS = (
    "source", "dataset", "tokenized", "run", "model", "adapter", "quantized", "export", "report", "version",
    "endpoint", "gone",
)  # fmt: skip
session = current()
t = session.t
site = session.site
workspace = site.workspace
root = workspace.storage.root


def show_list() -> None:
    """All names, versions and models, or why there is none."""
    st.title(t("models.title"))
    reading = models_of(root)
    if isinstance(reading, Unavailable):
        unavailable(reading)
        return
    models = reading.value
    if not models.versions and not models.unregistered:
        action = t("models.start") if has_page("new_run") else ""
        empty(t("models.empty"), action, lambda: go("new_run"))
        command_line(command_on(site, "heliostat", "run", "jobs/recipes/quickstart.yaml"))
        return
    _names(models)
    if models.versions:
        st.subheader(t("models.versions"))
        ids = [row.reference for row in models.versions]
        rows = [_version(row) for row in models.versions]
        chosen = table(rows, key="versions", ids=ids, choose="one", alt=t("models.versions"))
        st.caption(t("models.choose"))
        if chosen:
            open_here(model=chosen[0])
    _unregistered(models)


def _names(models: Models) -> None:
    """A card for each name: which version bears which alias."""
    names = dict.fromkeys(row.name for row in models.versions)
    with st.grid(min_column_width=300):
        for name in names:
            rows = [row for row in models.versions if row.name == name]
            with st.container(border=True, key=f"name_{name.replace('.', '_')}"):
                st.markdown(f"**{plain(name)}**")
                for alias in reversed(ALIASES):
                    bearer = next((row for row in rows if alias in row.aliases), None)
                    with st.container(horizontal=True, vertical_alignment="center"):
                        st.badge(t(f"models.alias.{alias}"), color=ALIAS_COLOURS[alias])
                        if bearer is None:
                            st.caption(t("models.none"))
                        elif st.button(bearer.version, key=f"open_{name}_{alias}", type="tertiary"):
                            open_here(model=bearer.reference)


def _version(row: VersionRow) -> dict[str, object]:
    return {
        t("models.name"): row.name,
        t("models.version"): row.version,
        t("models.aliases"): ", ".join(t(f"models.alias.{alias}") for alias in row.aliases) or "–",
        t("models.kind"): t(f"models.kind.{row.kind}"),
        t("models.reports"): row.num_reports,
        t("models.endpoints"): ", ".join(row.endpoints) or "–",
        t("models.run"): row.run or "–",
        t("models.size"): size(row.bytes),
        t("models.registered"): moment(row.created_at, time_zone()),
        t("models.artifact"): row.artifact_id,
    }


def _unregistered(models: Models) -> None:
    if not models.unregistered:
        return
    st.subheader(t("models.unregistered"))
    rows = [
        {
            t("models.name"): each.name,
            t("models.kind"): t(f"models.kind.{each.kind}"),
            t("models.run"): each.run or "–",
            t("models.size"): size(each.bytes),
            t("models.made"): moment(each.created_at, time_zone()),
            t("models.artifact"): each.artifact_id,
        }
        for each in models.unregistered
    ]
    ids = [each.artifact_id for each in models.unregistered]
    chosen = table(rows, key="unregistered", ids=ids, choose="one", alt=t("models.unregistered"))
    st.caption(t("models.unregistered_note"))
    if chosen:
        artifact = next(each for each in models.unregistered if each.artifact_id == chosen[0])
        may = session.actor.may("operator")
        with st.container(horizontal=True):
            if st.button(
                t("models.register"), key="register", type="primary", disabled=not may, icon=":material/add:"
            ):
                ask_to_register(artifact.artifact_id, artifact.name)
            if st.button(t("models.section.lineage"), key="lineage_of", icon=":material/account_tree:"):
                open_here(model=artifact.artifact_id, tab="lineage")


def show_detail(reference: str) -> None:
    """One version: what can be done with it, and one part of what is known."""
    back()
    reading = models_of(root)
    if isinstance(reading, Unavailable):
        unavailable(reading)
        return
    row = next((row for row in reading.value.versions if row.reference == reference), None)
    st.title(plain(row.reference if row else reference))
    if row is None and "@" in reference:
        st.warning(t("models.gone", reference=plain(reference)), icon=":material/help:")
        return
    if row is not None:
        with st.container(horizontal=True):
            for alias in row.aliases:
                st.badge(t(f"models.alias.{alias}"), color=ALIAS_COLOURS[alias])
            st.badge(t(f"models.kind.{row.kind}"), color="gray")
        _actions(row)
    part = section(SECTIONS if row else ("lineage", "card"), "models.section")
    if part == "overview" and row:
        _overview(row)
    elif part == "history" and row:
        _history(row)
    elif part == "card":
        _card(reference)
    else:
        _lineage(reference)


def _actions(row: VersionRow) -> None:
    may_admin, may_operate = session.actor.may("admin"), session.actor.may("operator")
    with st.container(horizontal=True):
        promote = st.button(
            t("models.promote"), type="primary", icon=":material/upgrade:", disabled=not may_operate
        )
        deploy = has_page("endpoints") and st.button(t("models.deploy"), icon=":material/rocket_launch:")
        for alias in row.aliases:
            may = session.actor.may(role_for(alias))
            label = t("models.roll_back", alias=t(f"models.alias.{alias}"))
            if st.button(label, key=f"back_{alias}", icon=":material/undo:", disabled=not may):
                _roll_back(row, alias)
        deleting = not row.aliases and st.button(
            t("models.delete"), icon=":material/delete:", disabled=not may_admin
        )
    if not may_operate:
        st.caption(t("models.look_only"))
    if promote:
        ask_to_promote(row.reference)
    if deploy:
        go("endpoints", deploy="1", model=row.reference)
    if deleting:
        _delete(row)


def _roll_back(row: VersionRow, alias: Alias) -> None:
    def do() -> None:
        event = roll_back_alias(session.actor, workspace, row.name, alias)
        models_of.clear()
        st.query_params["model"] = f"{row.name}@{event.version}"

    confirm(
        row.reference,
        t("models.roll_back_question", alias=t(f"models.alias.{alias}")),
        t("models.roll_back_yes"),
        do,
        done=t("models.rolled_back"),
        command=command_on(site, "heliostat", "models", "rollback", row.name, "--alias", alias),
    )


def _delete(row: VersionRow) -> None:
    def do() -> None:
        remove_version(session.actor, workspace, row.reference)
        models_of.clear()
        st.query_params.clear()

    confirm(
        row.reference,
        t("models.delete_question"),
        t("models.delete"),
        do,
        done=t("models.deleted"),
        command=command_on(site, "heliostat", "models", "delete", row.reference),
    )


def _overview(row: VersionRow) -> None:
    tiles(
        [
            Tile(t("models.reports"), number(row.num_reports)),
            Tile(t("models.endpoints"), number(len(row.endpoints)), help=", ".join(row.endpoints) or None),
            Tile(t("models.size"), size(row.bytes)),
            Tile(t("models.registered"), moment(row.created_at, time_zone())),
        ]
    )
    if not row.num_reports:
        st.info(t("models.not_evaluated"), icon=":material/grading:")
    with st.container(horizontal=True):
        if row.run and has_page("run") and st.button(t("models.open_run"), icon=":material/timeline:"):
            go("run", run=row.run)
        if row.report and st.button(t("models.open_report"), icon=":material/grading:"):
            go("evaluations", tab="examples", report=row.report)
        if row.endpoints and has_page("endpoints") and st.button(t("models.open_endpoint")):
            go("endpoints", endpoint=row.endpoints[0])
    st.text(t("models.artifact"))
    st.text(row.artifact_id)
    command_line(command_on(site, "heliostat", "models", "versions", row.name))


def _lineage(reference: str) -> None:
    reading = lineage_of(root, reference)
    if isinstance(reading, Unavailable):
        unavailable(reading)
        return
    graph = reading.value
    phone = "Mobi" in (st.context.headers.get("User-Agent") or "")
    upright = st.toggle(t("models.upright"), value=phone, key="upright")
    kinds = {kind: t(f"models.kind.{kind}") for kind in KINDS}
    nodes = _nodes(graph)
    option = lineage_chart(nodes, graph.edges, kinds, dark=session.dark, upright=upright)
    rows = [
        {t("models.kind"): kinds.get(n.kind, n.kind), t("models.name"): n.id, t("models.about"): n.about}
        for n in graph.nodes
    ]
    alt = t("models.lineage_alt", reference=reference, n=len(graph.nodes))
    chart(option, key="lineage", alt=alt, rows=rows, height=height_of(nodes, graph.edges, upright))
    if graph.left_out:
        st.caption(t("models.left_out", n=graph.left_out))
    command_line(command_on(site, "heliostat", "models", "lineage", reference))


def _nodes(graph: LineageGraph) -> list[GraphNode]:
    return [
        GraphNode(
            node.id, node.kind, _label(node.id, node.kind, node.facts), node.about, node.id == graph.start
        )
        for node in graph.nodes
    ]


def _label(node_id: str, kind: str, facts: dict[str, object]) -> str:
    """A node's name, short: the folder's where there is one, without the hash."""
    if kind == "source":
        count = facts.get("files") if node_id.startswith("sources:") else None
        return t("models.files", n=count) if count else node_id.rpartition("/")[2]
    path = facts.get("path")
    if isinstance(path, str):
        return path.rpartition("/")[2].rpartition("-")[0]
    return node_id.partition(":")[2] if kind in ("run", "endpoint") else node_id


def _card(reference: str) -> None:
    reading = model_card_of(root, reference)
    if isinstance(reading, Unavailable):
        unavailable(reading)
        return
    name = f"{reference.replace('/', '-')}.md"
    st.download_button(
        t("models.download_card"), reading.value, name, "text/markdown", on_click="ignore",
        icon=":material/download:",
    )  # fmt: skip
    st.code(reading.value, language="markdown", wrap_lines=True)
    command_line(command_on(site, "heliostat", "models", "card", reference))


def _history(row: VersionRow) -> None:
    reading = events_of(root, row.name)
    if isinstance(reading, Unavailable):
        unavailable(reading)
        return
    if not reading.value:
        st.info(t("models.no_history"))
        return
    rows = [
        {
            t("models.when"): moment(event.at, time_zone()),
            t("models.action"): t(f"models.action.{event.action}"),
            t("models.alias"): t(f"models.alias.{event.alias}"),
            t("models.version"): event.version,
            t("models.replaced"): event.replaced or "–",
            t("models.by"): event.user,
            t("models.gate"): event.gate or "–",
        }
        for event in reading.value
    ]
    table(rows, key="events", alt=t("models.section.history"))


asked = st.query_params.get("model")
if asked:
    show_detail(asked)
else:
    show_list()
