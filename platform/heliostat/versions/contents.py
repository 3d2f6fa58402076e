"""Everything on record in a workspace, read once: artifacts, runs, endpoints, versions, who works on what."""

from dataclasses import dataclass, field

from heliostat.endpoints import DeploymentRecord, read_deployments
from heliostat.locks import holders, paths_in_use
from heliostat.records import Artifact, Run
from heliostat.stage import read_run
from heliostat.version_notes import VersionNote, read_notes
from heliostat.versions.artifacts import read_artifacts
from heliostat.versions.registry import ModelVersion, Registry
from heliostat.workspace import Workspace

REPORT = "report"


@dataclass(frozen=True)
class Contents:
    """What the records say. `artifacts` and `runs` go by their paths relative to the workspace's root."""

    artifacts: dict[str, Artifact] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    deployments: tuple[DeploymentRecord, ...] = ()
    versions: tuple[ModelVersion, ...] = ()
    notes: tuple[VersionNote, ...] = ()
    in_use: dict[str, str] = field(default_factory=dict)
    """Paths that processes say to use, each with the process."""
    running: dict[str, str] = field(default_factory=dict)
    """Paths of runs that are going on, each with how that is known."""

    @classmethod
    def read(cls, workspace: Workspace) -> "Contents":
        """All records of a workspace.

        Raises:
            ArtifactError: a certificate or record cannot be read.
            TrackingError: the store of versions is out of reach.
        """
        runs = read_runs(workspace)
        held = holders(workspace.storage)
        running = {}
        for path, run in runs.items():
            key = path.rpartition("-")[2]
            holder = next((who for name, who in held.items() if name.endswith(f"-{key}")), None)
            if holder or (workspace.storage.remote and run.status == "running"):
                running[path] = holder or f"on record as running since {run.started_at:%Y-%m-%d %H:%M}"
        return cls(
            artifacts=read_artifacts(workspace),
            runs=runs,
            deployments=tuple(read_deployments(workspace)),
            versions=tuple(Registry(workspace).versions()),
            notes=tuple(read_notes(workspace)),
            in_use=paths_in_use(workspace.storage),
            running=running,
        )

    def paths_of(self, artifact_id: str) -> list[str]:
        """Where artifacts of an id lie; the same content may lie in several places."""
        return [path for path, artifact in self.artifacts.items() if artifact.id == artifact_id]

    def reports_on(self, artifact_id: str) -> list[Artifact]:
        """The reports made of an artifact, the latest first."""
        found = [
            each for each in self.artifacts.values() if each.kind == REPORT and artifact_id in each.parents
        ]
        return sorted(found, key=lambda each: each.created_at, reverse=True)


def read_runs(workspace: Workspace) -> dict[str, Run]:
    """The runs on record by their paths."""
    paths = [f"runs/{name}" for name in workspace.storage.list("runs") if not name.startswith(".")]
    found = {path: read_run(workspace, path) for path in paths}
    return {path: run for path, run in found.items() if run is not None}
