"""Giving an artifact its version: which number comes next, which run made it, which alias it bears."""

from heliostat.errors import ConfigError
from heliostat.locks import gate
from heliostat.records import now
from heliostat.stage import read_run
from heliostat.versions.names import Bump, Version, check_name, next_version
from heliostat.versions.registry import ModelVersion, Registry
from heliostat.versions.resolving import resolve_artifact
from heliostat.workspace import Workspace

REGISTERED_KINDS = ("model", "adapter", "quantized")
FIRST_BUMP: Bump = "minor"


def register_artifact(
    reference: str,
    name: str,
    workspace: Workspace,
    version: str | Version | None = None,
    bump: Bump = FIRST_BUMP,
    candidate: bool = False,
) -> ModelVersion:
    """Register an artifact (an id, a folder, or another version) as a version of `name`.

    Without a `version` it follows the highest that there is or was, by `bump`. `candidate` gives it that
    alias; for staging and production there is `heliostat.promotion`.

    Raises:
        ConfigError: the version exists or existed, or name or version is none, or the artifact is no model.
        ArtifactError: there is no such artifact, or it is being made again.
        TrackingError: the store refuses.
    """
    return register_in(Registry(workspace), reference, name, version, bump, candidate)


def register_in(
    registry: Registry,
    reference: str,
    name: str,
    version: str | Version | None = None,
    bump: Bump = FIRST_BUMP,
    candidate: bool = False,
) -> ModelVersion:
    """The same in a registry that may act for someone else than this process's user; errors as there."""
    check_name(name)
    given = Version.parse(version) if isinstance(version, str) else version
    with gate(registry.workspace.storage):  # or it may be collected, or made again, before it is a version
        return _register(reference, name, registry, given, bump, candidate)


def _register(
    reference: str, name: str, registry: Registry, given: Version | None, bump: Bump, candidate: bool
) -> ModelVersion:
    workspace = registry.workspace
    artifact = resolve_artifact(reference, workspace)
    if artifact.kind not in REGISTERED_KINDS:
        raise ConfigError(
            f"{reference}: is of kind {artifact.kind}; versions are of {', '.join(REGISTERED_KINDS)}"
        )
    wanted = given or next_version(registry.highest(name), bump, now().date())
    made = registry.register(name, wanted, artifact, _tracked_run(artifact.id, workspace))
    if candidate:
        registry.give("candidate", made)
        made = next(each for each in registry.versions(name) if each.number == made.number)
    return made


def _tracked_run(artifact_id: str, workspace: Workspace) -> str | None:
    """MLflow's id of the latest run that made an artifact; None where its record is gone."""
    folders = [name for name in workspace.storage.list("runs") if not name.startswith(".")]
    records = [read_run(workspace, f"runs/{name}") for name in folders]
    made = [each for each in records if each and artifact_id in each.outputs]
    return max(made, key=lambda each: each.started_at).tracking_run_id if made else None
