"""The record of requests: a line of JSON for each, written by a thread, with files that do not grow for ever.

It never holds a key, and the text that was sent only when the config asks for it. Several gateways may write
to one file: each line is one write at the end of the file, and whoever finds it full puts it aside.
"""

import fcntl
import json
import logging
import os
import queue
import threading
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from heliostat.errors import ServingError
from heliostat.serving.access.config import AuditConfig
from heliostat.storage import Storage, explain_os_errors

AUDIT_NAME = "audit.jsonl"
MAX_WAITING = 10_000
BATCH = 500
CLOSE_SECONDS = 5.0
COMPLAIN_SECONDS = 60.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One request, when it is over. What never came to be known is None."""

    request_id: str
    address: str
    route: str
    status: int
    milliseconds: float
    tenant: str | None = None
    key_prefix: str | None = None
    model: str | None = None
    version: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cache: str | None = None
    """exact, semantic or redis; None when the engine answered."""
    rule: str | None = None
    """The rule of policy or guard that decided."""
    error: str | None = None
    """The code of a refusal."""
    prompt: str | None = None


class AuditLog:
    """Takes entries at once and writes them soon. When the disk cannot follow, entries are lost and counted
    rather than requests held up."""

    def __init__(self, config: AuditConfig, storage: Storage | None = None) -> None:
        """`storage` is the workspace's, for the folder that the config does not name.

        Raises:
            ServingError: the workspace is no local folder, and the config names none.
            StorageError: the folder cannot be written.
        """
        self._config = config
        self.lost = 0
        self._queue: queue.Queue[tuple[float, AuditEntry] | None] = queue.Queue(MAX_WAITING)
        self._complained = -COMPLAIN_SECONDS
        self._thread: threading.Thread | None = None
        if not config.enabled:
            return
        self.path = _folder(config, storage) / AUDIT_NAME
        with explain_os_errors(str(self.path)):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _open(self.path)
        self._thread = threading.Thread(target=self._write_all, name="audit", daemon=True)
        self._thread.start()

    def write(self, entry: AuditEntry) -> None:
        """Take an entry; microseconds."""
        if self._thread is None:
            return
        try:
            self._queue.put_nowait((time.time(), entry))
        except queue.Full:
            self._lose(1, "the disk cannot follow")

    def close(self) -> None:
        """Write what is waiting, for a few seconds at most."""
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        deadline = time.monotonic() + CLOSE_SECONDS
        try:
            self._queue.put(None, timeout=CLOSE_SECONDS)
        except queue.Full:
            return
        thread.join(max(0.0, deadline - time.monotonic()))

    def _write_all(self) -> None:
        open_still = True
        while open_still:
            batch = [self._queue.get()]
            while len(batch) < BATCH and batch[-1] is not None and not self._queue.empty():
                batch.append(self._queue.get())
            if batch[-1] is None:
                open_still = False
            entries = [each for each in batch if each is not None]
            try:
                self._write_lines([self._line(*each) for each in entries])
            except OSError as error:
                self._lose(len(entries), str(error))
        os.close(self._file)

    def _line(self, moment: float, entry: AuditEntry) -> bytes:
        """JSON escapes what would break the line, or the terminal it is read on."""
        values = {key: value for key, value in asdict(entry).items() if value is not None}
        if not self._config.prompts:
            values.pop("prompt", None)
        stamp = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
        return json.dumps({"time": stamp} | values).encode() + b"\n"

    def _write_lines(self, lines: list[bytes]) -> None:
        self._follow()
        for line in lines:
            if os.fstat(self._file).st_size + len(line) > self._config.max_file_bytes:
                self._put_aside()
            _write_whole(self._file, line)

    def _follow(self) -> None:
        """Open the file anew if another gateway, or a person, has put it aside."""
        try:
            same = os.fstat(self._file).st_ino == self.path.stat().st_ino
        except FileNotFoundError:
            same = False
        if not same:
            os.close(self._file)
            self._file = _open(self.path)

    def _put_aside(self) -> None:
        """audit.jsonl becomes audit.jsonl.1, that becomes .2, and the oldest goes."""
        with self.path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._follow()  # another gateway may have been first
            if os.fstat(self._file).st_size == 0:
                return
            for number in range(self._config.kept_files, 0, -1):
                older = self.path.with_name(f"{AUDIT_NAME}.{number - 1}") if number > 1 else self.path
                if older.exists():
                    older.replace(self.path.with_name(f"{AUDIT_NAME}.{number}"))
            self._follow()

    def _lose(self, count: int, reason: str) -> None:
        self.lost += count
        if time.monotonic() - self._complained >= COMPLAIN_SECONDS:
            self._complained = time.monotonic()
            logger.error("audit: %d entries are lost so far: %s", self.lost, reason)


def _folder(config: AuditConfig, storage: Storage | None) -> Path:
    if config.folder is not None:
        return Path(config.folder).expanduser().resolve()
    if storage is None or storage.remote:
        raise ServingError(
            "the workspace is no local folder: set audit.folder to one, or audit.enabled to false"
        )
    return Path(storage.uri("gateway"))


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


def _write_whole(file: int, line: bytes) -> None:
    written = os.write(file, line)
    if written < len(line):  # a full disk takes a part; ending it keeps the next line whole
        os.write(file, b"\n")
        raise OSError("the disk took a part of a line")
