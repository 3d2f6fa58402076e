"""Where a deployed model answers, and the record of it in the workspace's deployments/.

On the ground floor, because lineage and the collection of garbage read these records as well.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError

from heliostat.errors import ArtifactError
from heliostat.records import Provenance, Record, first_problem, now
from heliostat.storage import split_uri
from heliostat.workspace import Workspace

HEALTH_PATH = "/healthz"


class Endpoint(Record):
    """A model that answers: `{url}/v1` is the base URL for OpenAI's clients."""

    name: str
    url: str
    model_id: str
    app_name: str
    needs_key: bool
    record_uri: str
    startup_seconds: float

    @property
    def base_url(self) -> str:
        """What an OpenAI client calls `base_url`."""
        return f"{self.url}/v1"


class DeploymentRecord(Record):
    """What was deployed from what; `status` turns to "stopped" when the endpoint is shut down."""

    endpoint: Endpoint
    status: Literal["running", "stopped"]
    artifact_id: str
    artifact_uri: str
    engine: str
    config: dict[str, Any]
    started_at: datetime
    stopped_at: datetime | None = None
    provenance: Provenance


FOLDER = "deployments"


def record_path(name: str) -> str:
    """Where an endpoint's record lies in the workspace."""
    return f"{FOLDER}/{name}.json"


def write_record(workspace: Workspace, record: DeploymentRecord) -> None:
    """Keep the record of an endpoint; one of the same name is replaced."""
    workspace.storage.write_bytes(
        record_path(record.endpoint.name), record.model_dump_json(indent=2).encode()
    )


def read_deployments(workspace: Workspace) -> list[DeploymentRecord]:
    """The records of all endpoints, by name.

    Raises:
        ArtifactError: one cannot be read.
    """
    storage = workspace.storage
    records = []
    for name in storage.list(FOLDER):
        if not name.endswith(".json") or name.startswith("."):
            continue
        try:
            records.append(DeploymentRecord.model_validate_json(storage.read_bytes(f"{FOLDER}/{name}")))
        except ValidationError as error:
            raise ArtifactError(
                f"{storage.uri(f'{FOLDER}/{name}')}: not the record of an endpoint: {first_problem(error)}; "
                "delete it if that endpoint is gone"
            ) from None
    return records


def mark_stopped(endpoint: Endpoint) -> None:
    """Note in an endpoint's record that it was shut down."""
    storage, name = split_uri(endpoint.record_uri)
    if storage.exists(name):
        record = DeploymentRecord.model_validate_json(storage.read_bytes(name))
        stopped = record.model_copy(update={"status": "stopped", "stopped_at": now()})
        storage.write_bytes(name, stopped.model_dump_json(indent=2).encode())
