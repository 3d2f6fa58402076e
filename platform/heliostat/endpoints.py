"""Where a deployed model answers, and the record of it in the workspace's deployments/.

On the ground floor, because lineage and the collection of garbage read these records as well. A process that
is killed writes nothing any more: of an endpoint on a cluster of its own, the machine it ran on can tell that
it is gone. Of any other a person has to say so (`forget`).
"""

import difflib
import http.client
import json
import urllib.error
import urllib.request
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError

from heliostat.driver import Driver
from heliostat.errors import ArtifactError, ConfigError, ServingError
from heliostat.records import Provenance, Record, first_problem, now
from heliostat.storage import split_uri
from heliostat.workspace import Workspace

HEALTH_PATH = "/healthz"
HEALTH_TIMEOUT_SECONDS = 5.0
MOST_BYTES = 2**16


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


class ServedAdapter(Record):
    """A LoRA adapter beside a version's model: requests ask for it as `ENDPOINT:NAME`."""

    name: str
    artifact_id: str
    artifact_uri: str


class Version(Record):
    """One artifact under one engine config, with replicas of its own; `weight` is its share of requests.

    `label` is what people and metrics call it.
    """

    label: str
    app_name: str
    weight: float
    artifact_id: str
    artifact_uri: str
    engine: str
    config: dict[str, Any]
    started_at: datetime
    adapters: tuple[ServedAdapter, ...] = ()

    @property
    def artifacts(self) -> dict[str, str]:
        """The artifacts that it answers from, its adapters' included: their URIs by id."""
        adapters = {adapter.artifact_id: adapter.artifact_uri for adapter in self.adapters}
        return {self.artifact_id: self.artifact_uri, **adapters}


class DeploymentRecord(Record):
    """What was deployed from what: the version that most requests go to, and beside it all of them.

    `status` turns to "stopped" when the endpoint is shut down, and to "gone" where it ended without a word.
    """

    endpoint: Endpoint
    status: Literal["running", "stopped", "gone"]
    artifact_id: str
    artifact_uri: str
    engine: str
    config: dict[str, Any]
    started_at: datetime
    stopped_at: datetime | None = None
    """When it was shut down, or said to be gone."""
    driver: Driver | None = None
    """None on a cluster that was there before, and outlives whoever deployed on it."""
    provenance: Provenance
    versions: tuple[Version, ...] = ()
    """Oldest first; more than one during a canary."""
    before: tuple[Version, ...] = ()
    """What `versions` was before the last change of weights: where a rollback goes."""
    note: str | None = None
    """What happened to it of itself, such as a canary that lost its share."""

    @property
    def artifacts(self) -> dict[str, str]:
        """All artifacts that this endpoint answers from, or goes back to: their URIs by id."""
        found: dict[str, str] = {}
        for version in (*self.before, *self.versions):
            found |= version.artifacts
        return {**found, self.artifact_id: self.artifact_uri}


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
    """The records of all endpoints, by name. One whose driver is known to have ended is "gone".

    Raises:
        ArtifactError: one cannot be read.
    """
    storage = workspace.storage
    records = []
    for name in storage.list(FOLDER):
        if not name.endswith(".json") or name.startswith("."):
            continue
        try:
            record = DeploymentRecord.model_validate_json(storage.read_bytes(f"{FOLDER}/{name}"))
        except ValidationError as error:
            raise ArtifactError(
                f"{storage.uri(f'{FOLDER}/{name}')}: not the record of an endpoint: {first_problem(error)}; "
                "delete it if that endpoint is gone"
            ) from None
        killed = record.status == "running" and record.driver is not None and record.driver.alive is False
        records.append(record.model_copy(update={"status": "gone"}) if killed else record)
    return records


def forget(workspace: Workspace, name: str) -> DeploymentRecord:
    """Note that an endpoint is gone, so that nothing is kept for it; one that was shut down stays as it is.

    Raises:
        ConfigError: there is no record of it.
        ServingError: it can be seen to run still.
        ArtifactError: a record cannot be read.
    """
    records = {record.endpoint.name: record for record in read_deployments(workspace)}
    if name not in records:
        close = difflib.get_close_matches(name, records, n=1)
        hint = f"did you mean '{close[0]}'?" if close else "'heliostat endpoints list' names those there are"
        raise ConfigError(f"{name}: no endpoint of that name is on record in this workspace; {hint}")
    record = records[name]
    if record.status == "stopped":
        return record
    if record.status == "running":
        _refuse_running(record)
    gone = record.model_copy(update={"status": "gone", "stopped_at": record.stopped_at or now()})
    write_record(workspace, gone)
    return gone


def _refuse_running(record: DeploymentRecord) -> None:
    name, driver = record.endpoint.name, record.driver
    if driver is not None and driver.alive:
        raise ServingError(
            f"{name}: is running: process {driver.process} on this machine serves it; end that first "
            f"('kill {driver.process}')"
        )
    if _answers(record.endpoint):
        raise ServingError(
            f"{name}: is running: it answers at {record.endpoint.url}; end it first: "
            f"'heliostat serve delete {name}'"
        )


def _answers(endpoint: Endpoint) -> bool:
    """Whether an endpoint of this name answers at its address, able to work or not."""
    try:
        with urllib.request.urlopen(
            f"{endpoint.url}{HEALTH_PATH}", timeout=HEALTH_TIMEOUT_SECONDS
        ) as response:
            said = response.read(MOST_BYTES)
    except urllib.error.HTTPError as error:
        said = error.read(MOST_BYTES)
    except (OSError, http.client.HTTPException):
        return False
    try:
        return endpoint.model_id in json.loads(said)["models"]
    except (ValueError, LookupError, TypeError):  # something else answers there
        return False


def mark_stopped(endpoint: Endpoint) -> None:
    """Note in an endpoint's record that it was shut down; not in that of one that took its name meanwhile."""
    storage, name = split_uri(endpoint.record_uri)
    if not storage.exists(name):
        return
    record = DeploymentRecord.model_validate_json(storage.read_bytes(name))
    if record.endpoint == endpoint:
        stopped = record.model_copy(update={"status": "stopped", "stopped_at": now()})
        storage.write_bytes(name, stopped.model_dump_json(indent=2).encode())
