"""Where everything lies below the workspace's root.

data/raw  data/processed  data/tokenized  data/metadata  runs  models  deployments  mlflow.db
"""

import hashlib
import os
from dataclasses import dataclass

from heliostat.errors import ConfigError
from heliostat.records import ArtifactKind
from heliostat.storage import Storage

DEFAULT_WORKSPACE = "heliostat-workspace"
_FOLDERS: dict[ArtifactKind, str] = {
    "dataset": "data/processed",
    "tokenized": "data/tokenized",
    "model": "models",
    "adapter": "models",
    "quantized": "models",
    "export": "models",
    "report": "reports",
}


@dataclass(frozen=True)
class Workspace:
    """The root under which artifacts, runs and the tracking database live."""

    storage: Storage

    @classmethod
    def resolve(cls, given: str | None = None) -> "Workspace":
        """The workspace asked for, else $HELIOSTAT_WORKSPACE, else ./heliostat-workspace.

        Raises:
            ConfigError: a relative path inside a submitted job, whose working folder vanishes with it.
        """
        root = given or os.environ.get("HELIOSTAT_WORKSPACE") or DEFAULT_WORKSPACE
        if os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") and "://" not in root and not os.path.isabs(root):
            raise ConfigError(
                f"workspace '{root}' is relative, and a submitted job's working folder vanishes "
                "with the job; set HELIOSTAT_WORKSPACE or --workspace to a shared path or URI"
            )
        return cls(Storage.at(root))

    def path(self, kind: ArtifactKind, name: str, key: str) -> str:
        """Where an artifact of this kind, name and key belongs, relative to the root."""
        return f"{_FOLDERS[kind]}/{name}-{key[:12]}"

    @property
    def artifact_folders(self) -> tuple[str, ...]:
        """The folders in which artifacts lie, each below a name of its own; relative to the root."""
        return tuple(sorted(set(_FOLDERS.values())))

    def artifact_paths(self) -> list[str]:
        """The folders, relative to the root, in which an artifact is or was to be."""
        return [
            f"{folder}/{name}"
            for folder in self.artifact_folders
            for name in self.storage.list(folder)
            if not name.startswith(".")
        ]

    def path_of(self, uri: str) -> str | None:
        """Where an artifact lies relative to the root; None where it is no artifact of this workspace."""
        name = uri.partition("?")[0].rstrip("/").rpartition("/")[2]
        paths = (f"{folder}/{name}" for folder in self.artifact_folders)
        return next((path for path in paths if self.storage.uri(path) == uri), None)

    def run_path(self, stage: str, key: str) -> str:
        """Where a run of this stage and key keeps its record, checkpoints and event files."""
        return f"runs/{stage}-{key[:12]}"


def key_of(*parts: str) -> str:
    """SHA-256, in hex, over what decides an output: the config's fingerprint and the inputs' contents."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
