"""The models that a config names beside the chain's."""

from pathlib import Path

from heliostat.errors import ArtifactError
from heliostat.models.importing import import_model
from heliostat.records import CERTIFICATE_NAME, Artifact, ArtifactKind
from heliostat.storage import find_artifact, open_artifact
from heliostat.versions.names import looks_like_reference
from heliostat.workspace import Workspace

KINDS: tuple[ArtifactKind, ...] = ("model", "quantized")
FOLDER = "models"


def find_models(named: dict[str, str], workspace: Workspace) -> dict[str, Artifact]:
    """The artifacts that references stand for.

    Raises:
        ArtifactError: there is no such model; names those that the workspace has.
        ModelError: a folder that is no artifact cannot be imported.
    """
    return {name: find_model(reference, workspace) for name, reference in named.items()}


def find_model(reference: str, workspace: Workspace) -> Artifact:
    """A model by its id, its folder's name in the workspace, its path, `pypi:NAME`, or a version such as
    `NAME@production`; errors as above."""
    if reference.startswith("pypi:") or looks_like_reference(reference):
        return import_model(reference, workspace)
    if "/" in reference:
        if "://" not in reference and not (Path(reference) / CERTIFICATE_NAME).is_file():
            return import_model(reference, workspace)
        return open_artifact(reference, KINDS)
    names = [name for name in workspace.storage.list(FOLDER) if not name.startswith(".")]
    found = {name: find_artifact(workspace.storage, f"{FOLDER}/{name}") for name in names}
    models = {name: each for name, each in found.items() if each and each.kind in KINDS}
    for name, model in models.items():
        if reference in (name, model.id):
            return model
    there = ", ".join(models) or "none"
    raise ArtifactError(f"{reference}: no such model in {workspace.storage.root}; it has: {there}")
