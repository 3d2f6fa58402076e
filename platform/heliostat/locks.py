"""Who works on what: a lock for each artifact being made, and notes of which artifacts a process uses.

Both are files below `.locks` whose hold the operating system ends with the process, however it dies. The
notes are for the collection of garbage (`versions/garbage.py`): between two stages nothing but the note says
that a finished artifact is about to be read. Object stores have no locks; notes there count by their age.
"""

import fcntl
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from heliostat.errors import BusyError
from heliostat.storage import Storage, explain_os_errors

LOCKS_FOLDER = ".locks"
NOTES_FOLDER = f"{LOCKS_FOLDER}/in-use"
GATE = "gate"
"""Held exclusively while garbage is told from what is used, and shared to note a use."""
PROBE_SECONDS = 0.2
"""Whoever looks whether a lock is held has it himself for an instant; so long a run waits for its own."""
REMOTE_NOTE_SECONDS = 7 * 24 * 3600.0
"""On an object store nobody can tell whether the writer of a note is alive; so long it counts."""


@contextmanager
def lock(storage: Storage, path: str) -> Iterator[None]:
    """Hold `path` for this process; the operating system lets go when the process dies, however it dies.

    Object stores have no such lock: two identical runs there do the same work twice, and as the certificate
    comes last either result is whole.

    Raises:
        BusyError: another run holds it.
    """
    if storage.remote:
        yield
        return
    with _hold(Path(storage.uri(LOCKS_FOLDER)) / lock_name(path), fcntl.LOCK_EX, PROBE_SECONDS) as stream:
        if stream is None:
            name = path.rpartition("/")[2]
            holder = holders(storage).get(lock_name(path), "process unknown")
            raise BusyError(f"{name}: an identical run is going on ({holder}); wait for it or stop it")
        stream.truncate(0)
        stream.write(f"process {os.getpid()}")
        stream.flush()
        yield


def lock_name(path: str) -> str:
    """The name of a path's lock."""
    return path.replace("/", "-")


def holders(storage: Storage) -> dict[str, str]:
    """The locks that a process holds now, each with who says to hold it; {} on an object store."""
    if storage.remote:
        return {}
    folder = Path(storage.uri(LOCKS_FOLDER))
    return {
        name: (folder / name).read_text() or "process unknown"
        for name in _lock_files(storage)
        if _is_held(folder / name)
    }


def remove_stale_locks(storage: Storage, delete: bool) -> list[str]:
    """The paths of locks and notes that no process holds any more; with `delete` they are removed."""
    if storage.remote:
        return [
            path for path, _, alive in _remote_notes(storage) if not alive and _deleted(storage, path, delete)
        ]
    stale = []
    notes = Path(storage.uri(NOTES_FOLDER))
    files = [*_lock_files(storage), *(f"in-use/{name}" for name in _names_in(notes))]
    for name in files:
        with _hold(Path(storage.uri(LOCKS_FOLDER)) / name, fcntl.LOCK_EX, wait_seconds=0) as stream:
            if stream is not None:
                stale.append(f"{LOCKS_FOLDER}/{name}")
                if delete:
                    Path(stream.name).unlink(missing_ok=True)
    return stale


@contextmanager
def gate(storage: Storage, exclusive: bool = False) -> Iterator[None]:
    """Wait for, and hold, the workspace's gate; shared unless told otherwise. Nothing on an object store."""
    if storage.remote:
        yield
        return
    with _hold(Path(storage.uri(LOCKS_FOLDER)) / GATE, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH):
        yield


@dataclass
class _Note:
    """What this process uses of one workspace, and the file that says so."""

    storage: Storage
    path: str
    depth: int = 0
    used: list[str] = field(default_factory=list)
    stream: IO[str] | None = None
    hold: ExitStack = field(default_factory=ExitStack)

    def write(self) -> None:
        content = "\n".join([f"process {os.getpid()} on {socket.gethostname()}", *self.used])
        if self.stream is None:
            self.storage.write_bytes(self.path, content.encode())
            return
        self.stream.seek(0)
        self.stream.truncate()
        self.stream.write(content)
        self.stream.flush()


_notes: dict[str, _Note] = {}


@contextmanager
def using(storage: Storage) -> Iterator[None]:
    """Keep what `note_use` names inside this block from being collected. Blocks may be nested."""
    note = _notes.setdefault(storage.root, _Note(storage, f"{NOTES_FOLDER}/{uuid.uuid4().hex}"))
    note.depth += 1
    try:
        if note.depth == 1 and not storage.remote:
            note.stream = note.hold.enter_context(_hold(Path(storage.uri(note.path)), fcntl.LOCK_EX))
        yield
    finally:
        note.depth -= 1
        if note.depth == 0:
            del _notes[storage.root]
            if note.stream is not None:
                Path(note.stream.name).unlink(missing_ok=True)
            elif note.used:
                storage.delete(note.path)
            note.hold.close()


def note_use(storage: Storage, *paths: str) -> None:
    """Say, before looking whether they are there, that artifacts will be used until the block of `using`
    ends. Outside of such a block nothing is noted."""
    note = _notes.get(storage.root)
    new = [path for path in paths if note and path not in note.used]
    if note is None or not new:
        return
    with gate(storage):
        note.used += new
        note.write()


def paths_in_use(storage: Storage) -> dict[str, str]:
    """The paths that living processes say to use, each with who does."""
    if storage.remote:
        notes = [content for _, content, alive in _remote_notes(storage) if alive]
    else:
        folder = Path(storage.uri(NOTES_FOLDER))
        notes = [(folder / name).read_text() for name in _names_in(folder) if _is_held(folder / name)]
    used: dict[str, str] = {}
    for content in notes:
        holder, *paths = content.splitlines() or [""]
        used |= dict.fromkeys(paths, holder)
    return used


def _remote_notes(storage: Storage) -> list[tuple[str, str, bool]]:
    """Path, content, and whether it still counts."""
    found = []
    for name in storage.list(NOTES_FOLDER):
        path = f"{NOTES_FOLDER}/{name}"
        age = time.time() - storage.modified(path)
        found.append((path, storage.read_bytes(path).decode(), age < REMOTE_NOTE_SECONDS))
    return found


def _deleted(storage: Storage, path: str, delete: bool) -> bool:
    if delete:
        storage.delete(path)
    return True


def _lock_files(storage: Storage) -> list[str]:
    return [name for name in _names_in(Path(storage.uri(LOCKS_FOLDER))) if name != GATE]


def _names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []


def _is_held(file: Path) -> bool:
    try:
        with file.open("r") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _open(file: Path) -> IO[str]:
    with explain_os_errors(str(file)):
        file.parent.mkdir(parents=True, exist_ok=True)
        return file.open("a+")


@contextmanager
def _hold(file: Path, how: int, wait_seconds: float | None = None) -> Iterator[IO[str] | None]:
    """Lock a file, waiting for ever or so long; None when another has it still.

    A file that was removed while one waited for it is nothing anybody else looks at: then the one of that
    name now is taken.
    """
    deadline = None if wait_seconds is None else time.monotonic() + wait_seconds
    while True:
        with _open(file) as stream:
            if not _locked(stream, how, deadline):
                yield None
                return
            if _is_the_one(stream, file):
                yield stream
                return


def _is_the_one(stream: IO[str], file: Path) -> bool:
    try:
        return os.fstat(stream.fileno()).st_ino == file.stat().st_ino
    except FileNotFoundError:
        return False


def _locked(stream: IO[str], how: int, deadline: float | None) -> bool:
    while True:
        try:
            fcntl.flock(stream, how | (0 if deadline is None else fcntl.LOCK_NB))
        except BlockingIOError:
            if deadline is None or time.monotonic() >= deadline:
                return False
            time.sleep(PROBE_SECONDS / 10)
        else:
            return True
