"""A run's metrics as columns, read from its `metrics.jsonl`; what was read before is not parsed again.

The file grows by lines, and a resumed run rewrites it with fewer. So a reader keeps how far it came and the
last bytes before that place: where these are others now, the file was rewritten and is read anew.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import orjson

from heliostat.errors import ArtifactError
from heliostat.storage import Storage
from heliostat.tracking import METRICS_FILE, RESUMED
from heliostat.workspace import Workspace

P = TypeVar("P")
PIECE_BYTES = 4 * 2**20
"""Parsed at once: rows as Python objects take ten times their text."""
SEAM_BYTES = 256
"""Compared at the place where reading goes on; each line holds the microsecond it was written in."""
MOST_FILES = 64
"""Kept in a process, the least recently asked for goes."""
_NOT_METRICS = ("step", "time")


@dataclass(frozen=True)
class Series:
    """One metric of a run, a point for each step that reported it.

    `steps` (n,) int64; `values` (n,) float64, which may be NaN or infinite; `times` (n,) in seconds since
    1970; `tokens` (n,) that were trained on up to then, over all steps.
    """

    name: str
    steps: np.ndarray
    values: np.ndarray
    times: np.ndarray
    tokens: np.ndarray

    @property
    def num_points(self) -> int:
        """How many were reported."""
        return len(self.steps)


@dataclass(frozen=True)
class Tail:
    """The last points of a metric: `steps`, `values` and `times`, all (n,), as in a `Series`."""

    steps: np.ndarray
    values: np.ndarray
    times: np.ndarray


@dataclass
class RunFile:
    """What is known of one file of metrics. `views` is for whoever computes something from its series; it is
    emptied when there is more to see."""

    offset: int = 0
    seam: bytes = b""
    num_rows: int = 0
    steps: list[np.ndarray] = field(default_factory=list)
    times: list[np.ndarray] = field(default_factory=list)
    columns: dict[str, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)
    """By metric, parts of (rows, values)."""
    last: dict[str, float] = field(default_factory=dict)
    series: dict[str, Series] = field(default_factory=dict)
    views: dict[Any, Any] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def names(self) -> list[str]:
        """The metrics, in the order in which they were first reported."""
        return [name for name in self.columns if name != RESUMED]

    def get(self, name: str) -> Series | None:
        """A metric's points; None where no step reported it."""
        with self.lock:
            if name in self.columns and name not in self.series:
                self.series[name] = self._series(name)
            return self.series.get(name)

    def tail(self, name: str, most: int) -> Tail:
        """A metric's last points; what came before is not gone through, however long it is."""
        with self.lock:
            parts = _last_parts(self.columns.get(name, []), most, lambda part: len(part[0]))
            if not parts:
                return Tail(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0))
            rows = _joined(parts, 0)[-most:].astype(np.int64)
            since = self.num_rows - int(rows[0])
            steps, times = (
                np.concatenate(_last_parts(all_of, since, len)) for all_of in (self.steps, self.times)
            )
            at = rows - self.num_rows
            return Tail(steps[at], _joined(parts, 1)[-most:], times[at])

    def _series(self, name: str) -> Series:
        rows = _joined(self.columns[name], 0).astype(np.int64)
        steps, times = (np.concatenate(parts) for parts in (self.steps, self.times))
        counted = np.zeros(self.num_rows)
        for at, tokens in self.columns.get("tokens", ()):
            counted[at] = np.where(np.isfinite(tokens), tokens, 0)
        return Series(name, steps[rows], _joined(self.columns[name], 1), times[rows], counted.cumsum()[rows])

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Take up some lines of the file."""
        rows = [row for row in rows if isinstance(row, dict) and isinstance(row.get("step"), int)]
        if not rows:
            return
        self.steps.append(np.array([row["step"] for row in rows], dtype=np.int64))
        self.times.append(_numbers([row.get("time") for row in rows])[1])
        names = dict.fromkeys(name for name in set().union(*rows) if name not in _NOT_METRICS)
        known = [name for name in self.columns if name in names]
        for name in [*known, *sorted(names.keys() - known, key=list(rows[0] | names).index)]:
            present, values = _numbers([row.get(name) for row in rows])
            if present.any():
                part = np.flatnonzero(present) + self.num_rows, values[present]
                self.columns.setdefault(name, []).append(part)
        self.last = {name: value for name, value in rows[-1].items() if isinstance(value, int | float)}
        self.num_rows += len(rows)


_files: OrderedDict[str, RunFile] = OrderedDict()
_lock = threading.Lock()


def read_metrics_of(workspace: Workspace, run_id: str) -> RunFile:
    """A run's metrics as they are now; one that has written none has no names.

    Raises:
        ArtifactError: what was given is no run's id.
        StorageError: the workspace does not answer.
    """
    if not run_id or "/" in run_id or run_id.startswith("."):
        raise ArtifactError(f"{run_id!r} is no run's id; 'heliostat runs list' names those there are")
    path = f"runs/{run_id}/{METRICS_FILE}"
    uri = workspace.storage.uri(path)
    with _lock:
        file = _files.setdefault(uri, RunFile())
        _files.move_to_end(uri)
        while len(_files) > MOST_FILES:
            _files.popitem(last=False)
    with file.lock:
        _catch_up(file, workspace.storage, path)
    return file


def read_series(workspace: Workspace, run_id: str, name: str) -> Series | None:
    """One metric of a run; None where no step reported it. Errors as `read_metrics_of`."""
    return read_metrics_of(workspace, run_id).get(name)


def _catch_up(file: RunFile, storage: Storage, path: str) -> None:
    if not storage.exists(path):
        _forget(file)
        return
    with storage.open_file(path) as stream:
        size = stream.size()
        start = max(0, file.offset - SEAM_BYTES)
        if file.offset and (size < file.offset or _read(stream, start, file.offset - start) != file.seam):
            _forget(file)
        for piece in _pieces(stream, file.offset, size):
            if file.series:
                file.series, file.views = {}, {}
            file.add(_parse(piece))
            file.offset += len(piece)
            file.seam = (file.seam + piece)[-SEAM_BYTES:]


def _forget(file: RunFile) -> None:
    if file.offset:
        file.offset, file.seam, file.num_rows, file.last = 0, b"", 0, {}
        file.steps, file.times, file.columns = [], [], {}
        file.series, file.views = {}, {}


def _read(stream: Any, start: int, length: int) -> bytes:
    stream.seek(start)
    return bytes(stream.read(length))


def _pieces(stream: Any, offset: int, size: int) -> Iterator[bytes]:
    """Whole lines from `offset` on, some MB at a time; a last line cut short waits for its end."""
    length = PIECE_BYTES
    while offset < size:
        read = _read(stream, offset, min(length, size - offset))
        end = read.rfind(b"\n") + 1
        if end:
            yield read[:end]
            offset += end
            length = PIECE_BYTES
        elif offset + len(read) >= size or not read:
            return
        else:
            length *= 2  # a line longer than a piece


def _parse(piece: bytes) -> list[Any]:
    """The lines of a piece. What is no number is written as NaN, which is no JSON: such lines go singly."""
    try:
        return list(orjson.loads(b"[" + piece.rstrip(b"\n").replace(b"\n", b",") + b"]"))
    except orjson.JSONDecodeError:
        return [row for line in piece.splitlines() if (row := _parse_line(line)) is not None]


def _parse_line(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            return json.loads(line)
        except ValueError:  # cut short by a crash
            return None


def _numbers(found: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Which are numbers, and the numbers (NaN elsewhere)."""
    try:
        values = np.array(found, dtype=np.float64)
        if not np.isnan(values).any():
            return np.ones(len(found), dtype=bool), values
    except (TypeError, ValueError):  # words among them
        found = [each if isinstance(each, int | float) else None for each in found]
        values = np.array(found, dtype=np.float64)
    return np.array([each is not None for each in found]), values


def _last_parts(parts: list[P], most: int, length: Callable[[P], int]) -> list[P]:
    """As many of the last parts as hold `most` points."""
    first, held = len(parts), 0
    while first and held < most:
        first -= 1
        held += length(parts[first])
    return parts[first:]


def _joined(parts: list[tuple[np.ndarray, np.ndarray]], which: int) -> np.ndarray:
    return np.concatenate([part[which] for part in parts])
