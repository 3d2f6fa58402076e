"""What `--force` may not overwrite: what versions and running endpoints rely on, and what that was made from.

Told from the records in the workspace alone: no store of versions is asked.
"""

from dataclasses import dataclass

from heliostat.endpoints import read_deployments
from heliostat.errors import ArtifactError
from heliostat.records import CERTIFICATE_NAME, Artifact
from heliostat.storage import find_artifact
from heliostat.version_notes import read_notes
from heliostat.workspace import Workspace


@dataclass(frozen=True)
class _Reliance:
    """What relies on the artifact at a path, and what to do if it need not any more."""

    path: str
    what: str
    mend: str


def refuse_overwriting(workspace: Workspace, path: str, itself_only: bool = False) -> None:
    """Refuse to make a finished artifact again while a version or a running endpoint relies on it.

    With `itself_only` it may be made again if they rely on it only by what was made from it.

    Raises:
        ArtifactError: says which does and how to mend it. Or a record cannot be read.
    """
    if not workspace.storage.exists(f"{path}/{CERTIFICATE_NAME}"):
        return
    reliances = [*_of_versions(workspace), *_of_endpoints(workspace), *_by_report(workspace, path)]
    found = next((each for each in reliances if each.path == path), None)
    what = found.what if found else ""
    if reliances and not found and not itself_only:
        artifacts = _readable_artifacts(workspace)
        own = artifacts.get(path)
        twins = [place for place, each in artifacts.items() if own and each.id == own.id and place != path]
        if not twins:  # else what they were made from stays
            found = next((each for each in reliances if path in _ancestors(each.path, artifacts)), None)
        what = f"what {found.what} was made from" if found else ""
    if found:
        raise ArtifactError(
            f"{path}: --force would overwrite {what}; leave --force out, change its name in the recipe, or "
            f"{found.mend}"
        )


def _of_versions(workspace: Workspace) -> list[_Reliance]:
    return [
        _Reliance(note.path, f"version {note.reference}", f"'heliostat models delete {note.reference}'")
        for note in read_notes(workspace)
    ]


def _by_report(workspace: Workspace, path: str) -> list[_Reliance]:
    """The versions that were promoted with the report at a path: their health is compared with it. What
    cannot be read is none, and may be made again."""
    try:
        report = find_artifact(workspace.storage, path)
    except ArtifactError:
        return []
    return [
        _Reliance(
            path,
            f"the report with which {note.reference} was promoted",
            f"'heliostat models delete {note.reference}'",
        )
        for note in read_notes(workspace)
        if report and report.id in note.reports
    ]


def _of_endpoints(workspace: Workspace) -> list[_Reliance]:
    return [
        _Reliance(
            _path_in(uri, workspace),
            f"{_role(artifact_id)} of endpoint {record.endpoint.name}",
            f"shut that endpoint down ('heliostat endpoints forget {record.endpoint.name}' if it is gone)",
        )
        for record in read_deployments(workspace)
        if record.status == "running"
        for artifact_id, uri in record.artifacts.items()
    ]


def _role(artifact_id: str) -> str:
    """What an endpoint has in an artifact, by the kind in its id."""
    return "an adapter" if artifact_id.startswith("adapter-") else "the model"


def _path_in(uri: str, workspace: Workspace) -> str:
    """Where an artifact lies in the workspace, which may have another path on the machine that serves it."""
    place = uri.partition("?")[0].rstrip("/")
    name = place.rpartition("/")[2]
    paths = [f"{folder}/{name}" for folder in workspace.artifact_folders]
    return next((path for path in paths if place.endswith(f"/{path}")), "")


def _readable_artifacts(workspace: Workspace) -> dict[str, Artifact]:
    """The artifacts by their paths; a certificate that cannot be read does not tell what it was made from."""
    found: dict[str, Artifact] = {}
    for path in workspace.artifact_paths():
        try:
            artifact = find_artifact(workspace.storage, path)
        except ArtifactError:
            continue
        if artifact:
            found[path] = artifact
    return found


def _ancestors(path: str, artifacts: dict[str, Artifact]) -> set[str]:
    """The paths of all that an artifact was made from."""
    seen: set[str] = set()
    waiting = [path]
    while waiting:
        child = artifacts.get(waiting.pop())
        parents = {place for place, each in artifacts.items() if child and each.id in child.parents}
        waiting += parents - seen
        seen |= parents
    return seen
