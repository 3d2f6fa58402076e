"""All certificates of a workspace, and an artifact by its id or folder."""

import difflib
from pathlib import Path

from heliostat.errors import ArtifactError
from heliostat.records import CERTIFICATE_NAME, Artifact
from heliostat.storage import find_artifact, is_remote
from heliostat.workspace import Workspace


def read_artifacts(workspace: Workspace) -> dict[str, Artifact]:
    """The finished artifacts of a workspace by their paths relative to its root.

    Raises:
        ArtifactError: a certificate cannot be read; what it refers to is not known then.
    """
    found = {path: find_artifact(workspace.storage, path) for path in workspace.artifact_paths()}
    return {path: artifact for path, artifact in found.items() if artifact is not None}


def artifact_at(text: str, workspace: Workspace) -> Artifact | None:
    """The artifact of an id, of the beginning of one, or of a folder; None where it is neither.

    Raises:
        ArtifactError: the beginning fits several ids.
    """
    given = text if is_remote(text) else str(Path(text).expanduser().resolve())
    path = workspace.path_of(given) or text
    if (path.partition("/")[2] or is_remote(text)) and workspace.storage.exists(f"{path}/{CERTIFICATE_NAME}"):
        return find_artifact(workspace.storage, path)
    artifacts = read_artifacts(workspace)
    fitting = {each.id: each for each in artifacts.values() if text and each.id.startswith(text)}
    if text in fitting:
        return fitting[text]
    if len(fitting) > 1:
        raise ArtifactError(f"{text}: fits {', '.join(sorted(fitting))}; give more of the id")
    return next(iter(fitting.values()), None)


def explain_unknown(text: str, known: list[str]) -> str:
    """`: no such ...; did you mean ...?`, or where to look."""
    close = difflib.get_close_matches(text, known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else "'heliostat models list' names what there is"
    return f"no such artifact, version or folder in the workspace; {hint}"
