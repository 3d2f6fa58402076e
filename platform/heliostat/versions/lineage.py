"""Where a thing came from and what became of it: a graph over the records, walked in both directions.

source files -> dataset -> tokenized -> run -> adapter -> model -> quantized -> version -> endpoint, and the
reports beside them. Nothing is written for it: certificates name their parents, runs what they made,
endpoints what they serve, versions what they number.
"""

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heliostat.errors import ArtifactError
from heliostat.records import Artifact, Run
from heliostat.storage import is_remote
from heliostat.versions.contents import Contents
from heliostat.versions.names import looks_like_reference
from heliostat.versions.registry import ModelVersion, Registry
from heliostat.versions.resolving import find_version
from heliostat.workspace import Workspace

ENDPOINT, RUN = "endpoint:", "run:"
MEGA = 1_000_000


@dataclass(frozen=True)
class Node:
    """A thing on record. `id` is what `heliostat models lineage` takes, with its kind before endpoints and
    runs; `kind` is an artifact's, or source, run, version, endpoint, or gone: named, but not there."""

    id: str
    kind: str
    about: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Lineage:
    """All nodes by their ids, and for each the ids of what it was made from, and of what was made of it."""

    nodes: dict[str, Node]
    above: dict[str, tuple[str, ...]]
    below: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, contents: Contents) -> "Lineage":
        """The lineage of everything that a workspace has on record."""
        growing = _Growing()
        for path, artifact in contents.artifacts.items():
            growing.add_artifact(path, artifact)
        for run in contents.runs.values():
            growing.add_run(run)
        for version in contents.versions:
            growing.add_version(version)
        for record in contents.deployments:
            name = record.endpoint.name
            served = [
                record.artifact_id,
                *(each for version in record.versions for each in version.artifacts),
            ]
            sources = [growing.bearers.get(each) or [each] for each in dict.fromkeys(served)]
            about = f"{record.status}, {record.endpoint.url}, {record.engine}"
            node = Node(f"{ENDPOINT}{name}", "endpoint", about, {"status": record.status})
            growing.add(node, *(source for of_one in sources for source in of_one))
        return growing.done()

    def find(self, text: str, workspace: Workspace) -> Node:
        """The node of a version, an artifact (id, beginning of one, folder), endpoint, run or source file.

        Raises:
            ArtifactError: there is none, or the beginning fits several.
            ConfigError: there is no such version.
        """
        if looks_like_reference(text):
            return self.nodes[find_version(text, Registry(workspace)).reference]
        place = text if is_remote(text) else str(Path(text).expanduser().resolve())
        named = [text, f"{ENDPOINT}{text}", f"{RUN}{text}", place]
        named += [node.id for node in self.nodes.values() if place in (node.facts.get("uri"), f"{node.id}/")]
        exact = next((self.nodes[name] for name in named if name in self.nodes), None)
        if exact:
            return exact
        fitting = [node for node in self.nodes.values() if text and node.id.startswith(text)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            shown = ", ".join(node.id for node in fitting[:5])
            raise ArtifactError(f"{text}: fits {shown}{', ...' if len(fitting) > 5 else ''}; give more of it")
        close = difflib.get_close_matches(
            text, [*self.nodes, *(i.partition(":")[2] for i in self.nodes)], n=1
        )
        hint = f"did you mean '{close[0]}'?" if close else "'heliostat models list' names what there is"
        raise ArtifactError(f"{text}: no artifact, version, endpoint, run or source on record here; {hint}")

    def walk(self, start: str, down: bool = False) -> list[tuple[str, str]]:
        """The edges from a node on, breadth first, each once: (from, to), away from the start."""
        edges, seen, waiting = [], {start}, [start]
        step = self.below if down else self.above
        while waiting:
            here = waiting.pop(0)
            for there in step.get(here, ()):
                edges.append((here, there))
                if there not in seen:
                    seen.add(there)
                    waiting.append(there)
        return edges

    def reports_on(self, node_id: str) -> list[Node]:
        """The reports in which a node, or the artifact of a version or endpoint, was scored."""
        ids = {node_id}
        while self.nodes[next(iter(ids))].kind in ("version", "endpoint"):
            ids = {above for each in ids for above in self.above[each]}
        reports = [node for node in self.nodes.values() if node.kind == "report"]
        found = [node for node in reports if ids.intersection(node.facts["parents"])]
        return sorted(found, key=lambda node: str(node.facts["created_at"]))

    def to_json(self, start: str, down: bool = False) -> dict[str, Any]:
        """The walk as plain values; a node comes once, with all that is known of it."""
        edges = self.walk(start, down)
        ids = dict.fromkeys([start, *(each for edge in edges for each in edge)])
        nodes = [
            {"id": n.id, "kind": n.kind, "about": n.about, **n.facts}
            for n in map(self.nodes.__getitem__, ids)
        ]
        return {"root": start, "direction": "down" if down else "up", "nodes": nodes, "edges": edges}


class _Growing:
    """A lineage being put together."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[str, dict[str, None]] = {}
        self.sources: dict[str, list[str]] = {}
        self.bearers: dict[str, list[str]] = {}
        """The versions of an artifact."""

    def add(self, node: Node, *above: str) -> None:
        self.nodes.setdefault(node.id, node)
        self.edges.setdefault(node.id, {}).update(dict.fromkeys(above))

    def add_artifact(self, path: str, artifact: Artifact) -> None:
        facts = {
            "uri": artifact.uri,
            "path": path,
            "bytes": artifact.bytes,
            "content": artifact.content,
            "parents": list(artifact.parents),
            "created_at": artifact.created_at.isoformat(),
        }
        about = f"{path}, {artifact.bytes / MEGA:.1f} MB, {artifact.created_at:%Y-%m-%d %H:%M}"
        sources = artifact.facts.get("sources")
        sources = sources if artifact.kind == "dataset" and isinstance(sources, list) else []
        for source in sources:
            self.add(Node(source["path"], "source", _about_source(source), source))
        named = [source["path"] for source in sources]
        self.sources.setdefault(artifact.id, []).extend(named)
        self.add(Node(artifact.id, artifact.kind, about, facts), *artifact.parents, *named)

    def add_run(self, run: Run) -> None:
        """Puts the run between what it made and what that was made from."""
        node = Node(
            f"{RUN}{run.id}",
            "run",
            f"{run.status}, {run.started_at:%Y-%m-%d %H:%M}, heliostat {run.provenance.heliostat_version}",
            {
                "stage": run.stage,
                "status": run.status,
                "metrics": run.metrics,
                "git": run.provenance.git_commit,
            },
        )
        made = [each for each in run.outputs if each in self.nodes]
        inputs = dict.fromkeys(run.inputs)
        for artifact_id in made:
            inputs |= self.edges[artifact_id]
            self.edges[artifact_id] = {node.id: None}
        inputs.pop(node.id, None)
        self.add(node, *(each for each in inputs if not each.startswith(RUN)))

    def add_version(self, version: ModelVersion) -> None:
        borne = f", {', '.join(version.aliases)}" if version.aliases else ""
        about = f"registered {version.created_at:%Y-%m-%d %H:%M}{borne}"
        self.bearers.setdefault(version.artifact_id, []).append(version.reference)
        node = Node(version.reference, "version", about, {"aliases": list(version.aliases)})
        self.add(node, version.artifact_id)

    def done(self) -> Lineage:
        below: dict[str, list[str]] = {}
        for child, parents in list(self.edges.items()):
            for parent in parents:
                below.setdefault(parent, []).append(child)
                if parent not in self.nodes:
                    self.nodes[parent] = Node(parent, "gone", "named by a certificate, and not here any more")
        return Lineage(
            self.nodes,
            {child: tuple(parents) for child, parents in self.edges.items()},
            {parent: tuple(children) for parent, children in below.items()},
        )


def _about_source(source: dict[str, Any]) -> str:
    told = f"sha256 {source['sha256']}" if "sha256" in source else ""
    told = told or f"of {source.get('modified') or 'Python ' + str(source.get('version'))}"
    files = f"{source['files']} files, " if "files" in source else ""
    return f"{files}{source['bytes']:,} bytes, {told}"
