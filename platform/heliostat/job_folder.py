"""What a submitted job leaves in its workspace, so that it outlives the cluster: its output, and its stages.

    jobs/ID/driver.log    all that the driver printed, as it prints it
    jobs/ID/stages.json   which stages it has, which one is at work, what each made
    jobs/ID/runs/RUN      an empty file for each run that it began, or went on with

Written by the job itself; on an object store every few seconds, and when it ends.
"""

import atexit
import codecs
import os
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from heliostat.errors import StorageError
from heliostat.records import Record, now
from heliostat.storage import Storage

FOLDER = "jobs"
UPLOAD_SECONDS = 5.0
_CHUNK = 2**16

StageState = Literal["running", "made", "found", "failed"]


class StageNote(Record):
    """One stage of a job. `found` is what was there before; `artifact` is the id of what it made or found."""

    title: str
    state: StageState
    started_at: datetime
    finished_at: datetime | None = None
    artifact: str | None = None
    artifact_kind: str | None = None
    says: str = ""

    @property
    def seconds(self) -> float:
        """How long it took, or takes so far."""
        return ((self.finished_at or now()) - self.started_at).total_seconds()


class StagesFile(Record):
    """The stages that began so far, and how many there are to be."""

    num_stages: int
    stages: tuple[StageNote, ...] = ()


_STAGES = TypeAdapter(StagesFile)


def log_path(job_id: str) -> str:
    """Where a job's output is, relative to the workspace's root."""
    return f"{FOLDER}/{job_id}/driver.log"


def stages_path(job_id: str) -> str:
    """Where the notes on a job's stages are, relative to the workspace's root."""
    return f"{FOLDER}/{job_id}/stages.json"


def note_run(storage: Storage, job_id: str, run_id: str) -> None:
    """Note that a job works on a run. A retry goes on with the run of the job before it: both have it."""
    with suppress(StorageError):
        storage.write_bytes(f"{FOLDER}/{job_id}/runs/{run_id}", b"")


def read_run_ids(storage: Storage, job_id: str) -> tuple[str, ...]:
    """The runs that a job worked on, by name."""
    return tuple(sorted(name for name in storage.list(f"{FOLDER}/{job_id}/runs") if not name.startswith(".")))


def read_stages(storage: Storage, job_id: str) -> StagesFile | None:
    """What a job noted of its stages; None before its first one."""
    path = stages_path(job_id)
    if not storage.exists(path):
        return None
    with suppress(ValidationError):  # another version's
        return _STAGES.validate_json(storage.read_bytes(path))
    return None


def read_log(storage: Storage, job_id: str, offset: int = 0) -> tuple[str, int]:
    """A job's output from a byte on, and the byte to go on from; ("", offset) where there is none yet."""
    path = log_path(job_id)
    if not storage.exists(path):
        return "", offset
    with _open(storage, path) as stream:
        stream.seek(offset)
        content = bytes(stream.read())
    # A character may be cut in two where the file ends just now: it is read whole the next time.
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(content)
    return text, offset + len(content) - len(decoder.getstate()[0])


def tail_log(storage: Storage, job_id: str, num_bytes: int = _CHUNK) -> str:
    """The end of a job's output, from a line's beginning on."""
    path = log_path(job_id)
    if not storage.exists(path):
        return ""
    with _open(storage, path) as stream:
        stream.seek(0, os.SEEK_END)
        size = stream.tell()
        stream.seek(max(0, size - num_bytes))
        text = bytes(stream.read()).decode(errors="replace")
    return text if size <= num_bytes else text.partition("\n")[2]


def _open(storage: Storage, path: str) -> Any:
    return storage.open_file(path) if storage.remote else open(storage.uri(path), "rb")


class StageNotes:
    """Keeps `stages.json` while a job runs; a disk that takes no note does not end the work."""

    def __init__(self, storage: Storage, job_id: str, num_stages: int) -> None:
        """Nothing is written before the first stage."""
        self._storage = storage
        self._path = stages_path(job_id)
        self._file = StagesFile(num_stages=num_stages)

    def begin(self, title: str) -> None:
        """A stage is at work now."""
        note = StageNote(title=title, state="running", started_at=now())
        self._write((*self._file.stages, note))

    def end(self, **what: str) -> None:
        """The stage that was at work has ended; `what` are fields of its note, its state among them."""
        last = self._file.stages[-1].model_copy(update={"finished_at": now(), **what})
        self._write((*self._file.stages[:-1], last))

    def _write(self, stages: tuple[StageNote, ...]) -> None:
        self._file = self._file.model_copy(update={"stages": stages})
        with suppress(StorageError):
            self._storage.write_bytes(self._path, self._file.model_dump_json(indent=2).encode())


def keep_output(storage: Storage, job_id: str) -> None:
    """Keep all that this process prints from now on in the job's log, and print it all the same.

    Works on the file descriptors, so that what libraries print is kept too, until Python's own end.
    """
    log = _Log(storage, log_path(job_id))
    reader, writer = os.pipe()
    shown = os.dup(1), os.dup(2)
    copying = threading.Thread(target=_copy, args=(reader, shown[0], log), name="kept-output", daemon=True)
    _flush()
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    os.close(writer)
    copying.start()

    def end() -> None:
        _flush()
        os.dup2(shown[0], 1)
        os.dup2(shown[1], 2)
        # A child that still has the pipe would hold this up; what it prints later is shown nowhere.
        copying.join(timeout=2.0)
        log.close()

    atexit.register(end)


class _Log:
    """A file that grows; on an object store one that is written anew every few seconds."""

    def __init__(self, storage: Storage, path: str) -> None:
        self._storage = storage
        self._path = path
        self._pending = bytearray()
        self._written_at = time.monotonic()
        self._stream = None
        if not storage.remote:
            with suppress(StorageError, OSError):
                storage.write_bytes(path, b"")
                self._stream = Path(storage.uri(path)).open("ab", buffering=0)  # noqa: SIM115 open until close()

    def add(self, piece: bytes) -> None:
        """Write a piece; a full disk loses the copy, never the job."""
        if self._stream is not None:
            with suppress(OSError):
                self._stream.write(piece)
            return
        self._pending += piece
        if time.monotonic() - self._written_at > UPLOAD_SECONDS:
            self._upload()

    def close(self) -> None:
        """Write out the rest."""
        if self._stream is not None:
            self._stream.close()
        else:
            self._upload()

    def _upload(self) -> None:
        if self._storage.remote:
            with suppress(StorageError):
                self._storage.write_bytes(self._path, bytes(self._pending))
            self._written_at = time.monotonic()


def _copy(reader: int, shown: int, log: _Log) -> None:
    while piece := os.read(reader, _CHUNK):
        with suppress(OSError):  # nobody listens any more
            os.write(shown, piece)
        log.add(piece)
    os.close(reader)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError, OSError):
            stream.flush()
