"""Notes of versions, kept in the workspace beside the store of versions.

What a version refers to stays so even where the store is another one than at registration
(MLFLOW_TRACKING_URI), and can be told without asking a store.
"""

from pydantic import ValidationError

from heliostat.errors import ArtifactError
from heliostat.records import Record, first_problem
from heliostat.workspace import Workspace

FOLDER = "versions"


class VersionNote(Record):
    """Which artifact bears a version; `path` is relative to the workspace's root."""

    name: str
    version: str
    artifact_id: str
    path: str
    reports: tuple[str, ...] = ()
    """The ids of the reports with which it was promoted."""

    @property
    def reference(self) -> str:
        """As it is written: `NAME@v1.2.3`."""
        return f"{self.name}@{self.version}"


def note_path(name: str, version: object) -> str:
    """Where a version's note lies in the workspace."""
    return f"{FOLDER}/{name}/{version}.json"


def write_note(workspace: Workspace, note: VersionNote) -> None:
    """Keep the note of a version."""
    path = note_path(note.name, note.version)
    workspace.storage.write_bytes(path, note.model_dump_json(indent=2).encode())


def note_report(workspace: Workspace, name: str, version: object, report: str) -> None:
    """Note with which report a version was promoted. One that has no note was registered elsewhere."""
    path = note_path(name, version)
    if not workspace.storage.exists(path):
        return
    note = _read(workspace, path)
    if report not in note.reports:
        write_note(workspace, note.model_copy(update={"reports": (*note.reports, report)}))


def read_notes(workspace: Workspace) -> list[VersionNote]:
    """The versions of which there is a note, in whatever store they are.

    Raises:
        ArtifactError: a note cannot be read.
    """
    storage = workspace.storage
    files = [file for file in storage.list(FOLDER, recursive=True) if file.endswith(".json")]
    return [_read(workspace, f"{FOLDER}/{file}") for file in files]


def _read(workspace: Workspace, path: str) -> VersionNote:
    try:
        return VersionNote.model_validate_json(workspace.storage.read_bytes(path))
    except ValidationError as error:
        raise ArtifactError(
            f"{workspace.storage.uri(path)}: not the note of a version: {first_problem(error)}; delete it "
            "and register the version anew under its next number"
        ) from None
