"""What is written beside every output: certificates, runs, provenance, receipts. Plain JSON, no services.

A certificate (`artifact.json`) is written last; a folder without one is not an artifact.
"""

import getpass
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import heliostat

ArtifactKind = Literal["dataset", "tokenized", "model", "adapter", "quantized", "export", "report"]
Status = Literal["running", "finished", "stopped", "failed"]
CERTIFICATE_NAME = "artifact.json"


class Record(BaseModel):
    """Base of all records: frozen, strict about keys, JSON in and out."""

    # A loss may be no number: pydantic's null could not be read back, and the run would be gone.
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class FileEntry(Record):
    """One file of an artifact; `path` is relative to the artifact's folder."""

    path: str
    bytes: int
    sha256: str


class Provenance(Record):
    """Which code, called how, by whom, with which versions, made something."""

    heliostat_version: str
    git_commit: str | None
    git_dirty: bool | None
    argv: tuple[str, ...]
    user: str
    python_version: str
    package_versions: dict[str, str]
    ray_job_id: str | None

    @classmethod
    def collect(cls) -> Self:
        """Describe this process. Versions are read from package metadata, so nothing heavy is imported."""
        commit, dirty = _git_state()
        return cls(
            heliostat_version=heliostat.__version__,
            git_commit=commit,
            git_dirty=dirty,
            argv=tuple(sys.argv),
            user=user_name(),
            python_version=sys.version.split()[0],
            package_versions=_package_versions(),
            ray_job_id=submission_id(),
        )


class Artifact(Record):
    """The certificate of a finished output.

    `key` is the fingerprint of the config and inputs it was made from; `content` is the SHA-256 over its
    files; `parents` are the ids of the artifacts it was made from; `facts` holds what the stage wants later
    stages and people to know (counts, perplexities, the tokenizer's hash).
    """

    id: str
    kind: ArtifactKind
    uri: str
    key: str
    content: str
    bytes: int
    files: tuple[FileEntry, ...]
    parents: tuple[str, ...]
    config: dict[str, Any]
    facts: dict[str, Any]
    created_at: datetime
    provenance: Provenance


class Run(Record):
    """One stage at work: written when it starts, written again when it ends."""

    id: str
    stage: str
    status: Status
    config: dict[str, Any]
    fingerprint: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    metrics: dict[str, float] = Field(default_factory=dict)
    attempts: int = 1
    started_at: datetime
    finished_at: datetime | None = None
    error: str | None = None
    tracking_run_id: str | None = None
    parent: str | None = None
    """The run that this one is a part of, such as the sweep of a trial; None for one of its own."""
    provenance: Provenance


class Count(Record):
    """A number of documents and of the tokens in them."""

    documents: int = Field(default=0, ge=0)
    tokens: int = Field(default=0, ge=0)

    def __add__(self, other: "Count") -> "Count":
        return Count(documents=self.documents + other.documents, tokens=self.tokens + other.tokens)


class Receipt(Record):
    """What became of everything that was read: `read = kept + dropped`, in documents and in tokens.

    `kept` is by split, `dropped` by reason. `truncated` counts the tokens cut off documents that were kept,
    and `repeated` those that are in the kept files more than once: as the overlap of windows, or because a
    mixture uses a document several times. Both are about kept documents, so neither enters their balance.
    """

    read: Count
    kept: dict[str, Count]
    dropped: dict[str, Count]
    truncated: Count = Count()
    repeated: Count = Count()

    @model_validator(mode="after")
    def _balances(self) -> Self:
        kept, dropped = total(self.kept), total(self.dropped)
        documents = kept.documents + dropped.documents
        tokens = kept.tokens + dropped.tokens + self.truncated.tokens
        if self.read.documents != documents:
            raise ValueError(
                f"receipt does not balance: {self.read.documents} documents read, {documents} accounted for"
            )
        if self.read.tokens + self.repeated.tokens != tokens:
            raise ValueError(
                f"receipt does not balance: {self.read.tokens} tokens read and {self.repeated.tokens} "
                f"repeated, {tokens} accounted for"
            )
        return self


def total(counts: dict[str, Count]) -> Count:
    """The sum over a breakdown."""
    return sum(counts.values(), Count())


def submitted_job() -> dict[str, Any]:
    """What Ray tells a submitted job's driver about itself (runtime_env, metadata); {} in other processes."""
    return dict(json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}"))


def submission_id() -> str | None:
    """The id under which this process's job was submitted; None in other processes."""
    found = (submitted_job().get("metadata") or {}).get("job_submission_id")
    return str(found) if found else None


def first_problem(error: ValidationError) -> str:
    """Why a file is not the record it should be, on one line."""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else str(problem["msg"])


def now() -> datetime:
    """The present, in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def user_name() -> str:
    """The name of whoever this process belongs to."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's numeric user has no name
        return str(os.getuid())


@cache
def _git_state() -> tuple[str | None, bool | None]:
    """The commit of the checkout this package runs from; (None, None) for an installed wheel."""
    folder = Path(__file__).resolve().parent
    if folder.parent.name != "platform":
        return None, None
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit, bool(_git(folder, "status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


@cache
def _package_versions() -> dict[str, str]:
    versions = {}
    for name in ("ray", "torch", "transformers", "deepspeed", "peft", "openvino-genai", "pyarrow", "mlflow"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
