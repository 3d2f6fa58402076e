"""Models: versions and aliases, where they come from, and moving them on or back.

Looking needs no role. Registering, and the aliases candidate and staging, are for operators; production is
what users get, so moving that, passing the gate by and deleting are for admins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from heliostat.control.roles import Actor, Role, require
from heliostat.errors import ArtifactError, EvaluationError
from heliostat.evaluation.comparison import MetricComparison
from heliostat.evaluation.gate import check_gate, failing
from heliostat.promotion import Gate, Promotion, compare_with_production, promote, scored_reports
from heliostat.records import Artifact
from heliostat.versions.contents import Contents
from heliostat.versions.deleting import delete_version
from heliostat.versions.history import AliasEvent
from heliostat.versions.lineage import Lineage, Node
from heliostat.versions.names import ALIASES, Alias, Bump, looks_like_reference
from heliostat.versions.registering import FIRST_BUMP, REGISTERED_KINDS, register_in
from heliostat.versions.registry import ModelVersion, Registry
from heliostat.versions.resolving import artifact_of, find_version, resolve_artifact
from heliostat.workspace import Workspace

MOST_NODES = 60
MOST_SOURCES = 3
MANY_SOURCES = "sources:"


@dataclass(frozen=True)
class VersionRow:
    """A version in the list: what it is, which aliases it bears, by how many reports it was scored, which
    endpoints answer from it. `reference` is NAME@v1.2.3."""

    reference: str
    name: str
    version: str
    aliases: tuple[str, ...]
    artifact_id: str
    kind: str
    bytes: int | None
    num_reports: int
    report: str | None
    endpoints: tuple[str, ...]
    run: str | None
    created_at: datetime


@dataclass(frozen=True)
class Unregistered:
    """A model that has no version: its artifact's id, its folder's name, what made it."""

    artifact_id: str
    name: str
    kind: str
    bytes: int
    run: str | None
    created_at: datetime


@dataclass(frozen=True)
class Models:
    """All versions by name, the highest first; and the models that have none, the latest first."""

    versions: tuple[VersionRow, ...]
    unregistered: tuple[Unregistered, ...]


@dataclass(frozen=True)
class LineageGraph:
    """Nodes and edges (from what was there first to what was made of it) around one of them. `left_out` nodes
    are not shown."""

    start: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]
    left_out: int = 0


@dataclass(frozen=True)
class PromotionPreview:
    """What promoting would compare and say, before anything is done: a is production, b the version.

    `refusal` is why the gate would stay shut, in one line; None where it would open. `endpoints` are those
    that answer from whatever bears the alias now.
    """

    version: VersionRow
    to: Alias
    production: VersionRow | None
    replaces: VersionRow | None
    comparisons: tuple[MetricComparison, ...]
    worse: tuple[MetricComparison, ...]
    refusal: str | None
    endpoints: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)


def list_versions(workspace: Workspace) -> Models:
    """Every version and every model without one.

    Raises:
        ArtifactError: a record cannot be read.
        StorageError, TrackingError: the workspace or its store of versions does not answer.
    """
    contents = Contents.read(workspace)
    numbered = {version.artifact_id for version in contents.versions}
    models = [each for each in contents.artifacts.values() if each.kind in REGISTERED_KINDS]
    free = [
        Unregistered(m.id, _name_of(m), m.kind, m.bytes, _made_by(m.id, contents), m.created_at)
        for m in sorted(models, key=lambda each: each.created_at, reverse=True)
        if m.id not in numbered
    ]
    return Models(tuple(_row(version, contents) for version in contents.versions), tuple(free))


def alias_history(workspace: Workspace, name: str) -> list[AliasEvent]:
    """What was done to a name's aliases, the latest first. Errors as `list_versions`."""
    registry = Registry(workspace)
    events = [event for alias in ALIASES for event in registry.history(name, alias)]
    return sorted(events, key=lambda event: event.at, reverse=True)


def lineage_graph(workspace: Workspace, reference: str, most: int = MOST_NODES) -> LineageGraph:
    """What a version, artifact, endpoint or run was made from, and what was made of it, the nearest first.

    Raises:
        ArtifactError, ConfigError: there is no such thing.
        StorageError, TrackingError: as `list_versions`.
    """
    found = Lineage.of(Contents.read(workspace))
    start = found.find(reference, workspace).id
    edges = [(there, here) for here, there in found.walk(start)]
    edges += found.walk(start, down=True)
    edges += [(start_or_above, report.id) for start_or_above, report in _reports(found, start)]
    nodes, edges = _without_many_sources(found, start, edges)
    shown = dict.fromkeys([start, *(each for edge in edges for each in edge)])
    kept = list(shown)[:most]
    inside = [edge for edge in dict.fromkeys(edges) if edge[0] in kept and edge[1] in kept]
    return LineageGraph(start, tuple(nodes[each] for each in kept), tuple(inside), len(shown) - len(kept))


def card_of(workspace: Workspace, reference: str) -> str:
    """The model card as Markdown, from the records. Errors as `lineage_graph`."""
    from heliostat.versions.card import model_card

    version = find_version(reference, Registry(workspace)) if looks_like_reference(reference) else None
    artifact = artifact_of(version, workspace) if version else resolve_artifact(reference, workspace)
    return model_card(artifact, version, Contents.read(workspace))


def preview_promotion(
    workspace: Workspace, reference: str, to: Alias, gate: Gate | None = None
) -> PromotionPreview:
    """What a promotion would compare, and whether the gate would open; nothing is changed.

    Raises:
        ConfigError: there is no such version.
        ArtifactError, StorageError, TrackingError: as `list_versions`.
    """
    gate = gate or Gate({})
    contents = Contents.read(workspace)
    version = find_version(reference, Registry(workspace))
    bearers = {
        alias: each for each in contents.versions if each.name == version.name for alias in each.aliases
    }
    production, replaced = bearers.get("production"), bearers.get(to)
    comparisons: list[MetricComparison] = []
    refusal = f"{version.reference} is {to} already" if to in version.aliases else None
    if to != "candidate" and refusal is None:
        try:
            _, other, comparisons = compare_with_production(version, production, contents)
            if other is not None:
                check_gate(comparisons, gate.margins, gate.default_margin)
        except EvaluationError as error:
            refusal = str(error)
    rows = [_row(each, contents) if each else None for each in (production, replaced)]
    return PromotionPreview(
        version=_row(version, contents),
        to=to,
        production=rows[0],
        replaces=rows[1],
        comparisons=tuple(comparisons),
        worse=tuple(failing(comparisons, gate.margins, gate.default_margin)),
        refusal=refusal,
        endpoints=rows[1].endpoints if rows[1] else (),
    )


def role_for(alias: Alias, skip_gate: bool = False) -> Role:
    """Who may give or take an alias."""
    return "admin" if alias == "production" or skip_gate else "operator"


def promote_version(
    actor: Actor, workspace: Workspace, reference: str, to: Alias, gate: Gate | None = None
) -> Promotion:
    """Let a version bear an alias, if the gate opens; the log names the actor.

    Raises:
        AccessError: the actor may not.
        ConfigError, ArtifactError, EvaluationError: as `heliostat.promotion.promote`.
    """
    skip = gate is not None and gate.skip
    require(actor, role_for(to, skip), f"promote to {to}" + " without the gate" * skip)
    return promote(reference, to, workspace, gate, actor.user)


def roll_back_alias(actor: Actor, workspace: Workspace, name: str, alias: Alias) -> AliasEvent:
    """Give an alias back to the version that bore it before.

    Raises:
        AccessError: the actor may not.
        ConfigError: none bore it before.
    """
    require(actor, role_for(alias), f"roll {alias} back")
    return Registry(workspace, actor.user).roll_back(name, alias)


def register_model(
    actor: Actor, workspace: Workspace, artifact: str, name: str, bump: Bump = FIRST_BUMP
) -> ModelVersion:
    """Give a model the next version of a name, as candidate.

    Raises:
        AccessError: the actor may not.
        ConfigError, ArtifactError: as `heliostat.versions.registering.register_artifact`.
    """
    require(actor, "operator", "register models")
    return register_in(Registry(workspace, actor.user), artifact, name, bump=bump, candidate=True)


def remove_version(actor: Actor, workspace: Workspace, reference: str) -> ModelVersion:
    """Take a version away that bears no alias and that no endpoint serves; its number stays taken.

    Raises:
        AccessError: the actor may not.
        ConfigError: somebody relies on it, or there is none.
    """
    require(actor, "admin", "delete versions")
    return delete_version(reference, workspace, actor.user)


def _row(version: ModelVersion, contents: Contents) -> VersionRow:
    artifacts = [contents.artifacts[path] for path in contents.paths_of(version.artifact_id)]
    reports = scored_reports(version.artifact_id, contents)
    serving = [
        record.endpoint.name
        for record in contents.deployments
        if record.status == "running" and version.artifact_id in record.artifacts
    ]
    return VersionRow(
        reference=version.reference,
        name=version.name,
        version=str(version.version),
        aliases=tuple(version.aliases),
        artifact_id=version.artifact_id,
        kind=version.kind,
        bytes=artifacts[0].bytes if artifacts else None,
        num_reports=len(reports),
        report=reports[0].id if reports else None,
        endpoints=tuple(serving),
        run=_made_by(version.artifact_id, contents),
        created_at=version.created_at,
    )


def _made_by(artifact_id: str, contents: Contents) -> str | None:
    made = [run for run in contents.runs.values() if artifact_id in run.outputs]
    return max(made, key=lambda run: run.started_at).id if made else None


def _name_of(artifact: Artifact) -> str:
    return artifact.uri.partition("?")[0].rstrip("/").rpartition("/")[2].rpartition("-")[0]


def _reports(lineage: Lineage, start: str) -> list[tuple[str, Node]]:
    """Reports in which the start was scored, each behind what it was made from here."""
    reports = lineage.reports_on(start)
    nearest = lineage.above.get(start, ())
    found = []
    for report in reports:
        parents = set(report.facts.get("parents", ()))
        source = start if start in parents else next((each for each in nearest if each in parents), start)
        found.append((source, report))
    return found


def _without_many_sources(
    lineage: Lineage, start: str, edges: Sequence[tuple[str, str]]
) -> tuple[dict[str, Node], list[tuple[str, str]]]:
    """Where a dataset has many source files, one node stands for all of them."""
    nodes = dict(lineage.nodes)
    sources: dict[str, list[str]] = {}
    for above, made in edges:
        if nodes[above].kind == "source" and above != start:
            sources.setdefault(made, []).append(above)
    many = {made: found for made, found in sources.items() if len(found) > MOST_SOURCES}
    kept = [(a, made) for a, made in edges if not (made in many and a in many[made])]
    for made, found in many.items():
        stands = f"{MANY_SOURCES}{made}"
        total = sum(int(nodes[each].facts.get("bytes", 0)) for each in found)
        nodes[stands] = Node(stands, "source", f"{len(found)} files, {total:,} bytes", {"files": len(found)})
        kept.insert(0, (stands, made))
    return nodes, kept


def require_version(workspace: Workspace, reference: str) -> VersionRow:
    """A version by its reference, as in the list.

    Raises:
        ArtifactError: there is none.
    """
    found = next((row for row in list_versions(workspace).versions if row.reference == reference), None)
    if found is None:
        raise ArtifactError(f"{reference}: no such version; 'heliostat models versions' lists all")
    return found
