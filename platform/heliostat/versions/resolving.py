"""From `NAME@production`, an id or a folder to the artifact itself."""

import difflib

from heliostat.errors import ArtifactError, ConfigError
from heliostat.records import Artifact
from heliostat.storage import find_artifact, split_uri
from heliostat.versions.artifacts import artifact_at, explain_unknown, read_artifacts
from heliostat.versions.names import Reference, Version, looks_like_reference, parse_reference
from heliostat.versions.registry import ModelVersion, Registry
from heliostat.workspace import Workspace


def find_version(text: str, registry: Registry) -> ModelVersion:
    """The version that `NAME@ALIAS` or `NAME@VERSION` means now.

    Raises:
        ConfigError: there is none; says which was probably meant.
        TrackingError: the store refuses.
    """
    wanted = parse_reference(text)
    everything = registry.versions()
    versions = [each for each in everything if each.name == wanted.name]
    found = next((each for each in versions if wanted.which in (each.version, *each.aliases)), None)
    if found is not None:
        return found
    gone = registry.deletions(wanted.name).get(wanted.which) if isinstance(wanted.which, Version) else None
    if gone:
        raise ConfigError(
            f"{text}: was deleted on {gone.at:%Y-%m-%d %H:%M} by {gone.user}; it was {gone.artifact_id}, "
            f"at {gone.uri}"
        )
    if not versions:
        names = sorted({each.name for each in everything})
        close = difflib.get_close_matches(wanted.name, names, n=1)
        hint = (
            f"did you mean '{close[0]}@{wanted.which}'?" if close else "'heliostat models versions' lists all"
        )
        raise ConfigError(f"{text}: no model of that name has versions in this workspace; {hint}")
    raise ConfigError(_unknown_version(text, wanted, versions))


def _unknown_version(text: str, wanted: Reference, versions: list[ModelVersion]) -> str:
    known = {alias: each for each in versions for alias in each.aliases}
    if isinstance(wanted.which, str):
        borne = ", ".join(f"{alias} ({each.version})" for alias, each in sorted(known.items()))
        return (
            f"{text}: no version of '{wanted.name}' bears the alias {wanted.which}; its aliases: "
            f"{borne or 'none'}, its highest version: {versions[0].version}"
        )
    named = [str(each.version) for each in versions]
    close = difflib.get_close_matches(str(wanted.which), named, n=1, cutoff=0.3)
    return f"{text}: '{wanted.name}' has no such version; did you mean '{wanted.name}@{(close or named)[0]}'?"


def artifact_of(version: ModelVersion, workspace: Workspace) -> Artifact:
    """The artifact that bears a version, where it lies; no copy.

    Raises:
        ArtifactError: it is gone, or was made again and is another one now.
    """
    found = find_artifact(workspace.storage, version.path)
    if found is None or found.id != version.artifact_id:
        again = next((e for e in read_artifacts(workspace).values() if e.id == version.artifact_id), None)
        outside, name = split_uri(version.uri)
        found = again or (find_artifact(outside, name) if outside.exists(name) else None) or found
    if found is None:
        raise ArtifactError(
            f"{version.reference}: its artifact {version.artifact_id} is gone from {version.uri}"
        )
    if found.content != version.content:
        raise ArtifactError(
            f"{version.reference}: {found.uri} was made again since and holds {found.id} now, not "
            f"{version.artifact_id}; register that as a version of its own"
        )
    return found


def resolve_version(text: str, workspace: Workspace) -> Artifact:
    """The artifact of `NAME@ALIAS` or `NAME@VERSION`.

    Raises:
        ConfigError, ArtifactError, TrackingError: as `find_version` and `artifact_of`.
    """
    return artifact_of(find_version(text, Registry(workspace)), workspace)


def resolve_artifact(text: str, workspace: Workspace) -> Artifact:
    """The artifact of a version, of an id or the beginning of one, or of a folder.

    Raises:
        ArtifactError: there is none.
        ConfigError, TrackingError: as `resolve_version`.
    """
    if looks_like_reference(text):
        return resolve_version(text, workspace)
    found = artifact_at(text, workspace)
    if found is None:
        known = {name for path, each in read_artifacts(workspace).items() for name in (each.id, path)}
        names = {version.name for version in Registry(workspace).versions()}
        if text in names:
            raise ConfigError(f"{text}: which version? write {text}@production or {text}@v1.2.3")
        raise ArtifactError(f"{text}: {explain_unknown(text, sorted(known))}")
    return found
