"""Taking a version away: only one that nobody relies on, and never its number."""

from heliostat.endpoints import read_deployments
from heliostat.errors import ConfigError
from heliostat.version_notes import note_path
from heliostat.versions.names import Reference, Version, parse_reference
from heliostat.versions.registry import ModelVersion, Registry
from heliostat.versions.resolving import find_version
from heliostat.workspace import Workspace


def delete_version(text: str, workspace: Workspace, user: str | None = None) -> ModelVersion:
    """Delete the version `NAME@VERSION`. Its artifact stays until it is collected as garbage. `user` is who
    does it, where that is not whom this process belongs to.

    Raises:
        ConfigError: there is none, it bears an alias, or an endpoint serves it.
        ArtifactError: the record of an endpoint cannot be read.
        TrackingError: the store refuses.
    """
    registry = Registry(workspace, user)
    wanted = parse_reference(text)
    try:
        version = find_version(text, registry)
    except ConfigError:
        _explain_note(wanted, workspace)
        raise
    if version.aliases:
        raise ConfigError(
            f"{version.reference} bears {', '.join(version.aliases)}; let another version bear that first "
            f"('heliostat models promote {version.name}@VERSION --to {version.aliases[0]}' or "
            f"'heliostat models rollback {version.name} --alias {version.aliases[0]}')"
        )
    serving = [
        record.endpoint.name
        for record in read_deployments(workspace)
        if record.status == "running" and version.artifact_id in record.artifacts
    ]
    if serving:
        raise ConfigError(
            f"{version.reference} is what endpoint {serving[0]} serves; shut that down first, or, if it is "
            f"gone, say so: 'heliostat endpoints forget {serving[0]}'"
        )
    registry.delete(version)
    return version


def _explain_note(wanted: Reference, workspace: Workspace) -> None:
    """A version that the store does not have may be noted in the workspace, and is kept for its note then."""
    path = note_path(wanted.name, wanted.which)
    if isinstance(wanted.which, Version) and workspace.storage.exists(path):
        raise ConfigError(
            f"{wanted}: is noted in {workspace.storage.uri(path)}, but not in this store of versions; name "
            "its own with MLFLOW_TRACKING_URI, or delete that file if there is none any more"
        ) from None
