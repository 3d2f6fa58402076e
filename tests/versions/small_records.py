"""Small artifacts on disk, and records in memory for what is pure over them."""

from datetime import UTC, datetime
from typing import Any

from heliostat.endpoints import DeploymentRecord, Endpoint, ServedAdapter
from heliostat.endpoints import Version as ServedVersion
from heliostat.records import Artifact, Provenance, Run
from heliostat.storage import publish, staging
from heliostat.versions.names import Version
from heliostat.versions.registry import ModelVersion
from heliostat.workspace import Workspace, key_of

AT = datetime(2026, 1, 1, tzinfo=UTC)
WHO = Provenance.collect()


def publish_small(
    workspace: Workspace,
    name: str,
    kind: Any = "model",
    parents: tuple[Artifact, ...] = (),
    facts: dict[str, Any] | None = None,
    content: str | None = None,
) -> Artifact:
    """An artifact of one file, whose content is its name unless told otherwise."""
    key = key_of(name, kind, *(parent.id for parent in parents))
    with staging(workspace.storage, workspace.path(kind, name, key)) as publication:
        (publication.folder / "content.txt").write_text(content or f"{kind} {name}")
        publication.facts.update(facts or {})
        return publish(publication, kind, key, {"name": name}, parents)


def artifact(number: int, kind: str, parents: tuple[str, ...]) -> Artifact:
    """An artifact whose id tells its number."""
    return Artifact(
        id=f"{kind}-{number}", kind=kind, uri=f"/w/{number}", key=str(number), content=str(number), bytes=1,
        files=(), parents=parents, config={}, facts={}, created_at=AT, provenance=WHO,
    )  # fmt: skip


def version(name: str, of: Artifact, report: str | None = None) -> ModelVersion:
    """A version that bears `production` if it has a report."""
    tags = {"heliostat.report.production": report} if report else {}
    return ModelVersion(name, Version(1, 0, 0), 1, of.id, of.kind, "", of.uri, of.content, AT, (), tags)


def endpoint(name: str, of: Artifact, status: str) -> DeploymentRecord:
    """The record of an endpoint."""
    where = Endpoint(
        name=name, url="http://127.0.0.1:1", model_id=name, app_name=name, needs_key=False, record_uri="",
        startup_seconds=1.0,
    )  # fmt: skip
    return DeploymentRecord(
        endpoint=where, status=status, artifact_id=of.id, artifact_uri=of.uri, engine="openvino", config={},
        started_at=AT, provenance=WHO,
    )  # fmt: skip


def serving(label: str, of: Artifact, *adapters: Artifact) -> ServedVersion:
    """A version of an endpoint."""
    served = tuple(
        ServedAdapter(name=each.id, artifact_id=each.id, artifact_uri=each.uri) for each in adapters
    )
    return ServedVersion(
        label=label, app_name=f"app-{label}", weight=50, artifact_id=of.id, artifact_uri=of.uri,
        engine="openvino", config={}, started_at=AT, adapters=served,
    )  # fmt: skip


def run(number: int, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Run:
    """A run's record."""
    return Run(
        id=f"run-{number}", stage="train", status="finished", config={}, fingerprint="", inputs=inputs,
        outputs=outputs, started_at=AT, provenance=WHO,
    )  # fmt: skip
