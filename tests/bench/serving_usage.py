"""CPU time and memory of a server: a process and all that it has started."""

import re
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

_INTERVAL_SECONDS = 1.0


class ProcessTree:
    """A process and its descendants, Ray's daemons and workers among them."""

    def __init__(self, process_id: int) -> None:
        self._root = psutil.Process(process_id)
        self._ended: dict[int, float] = {}

    def cpu_seconds(self) -> float:
        """User and system time so far; of a process that has ended, what it had when it was seen last."""
        for process in self._processes():
            with suppress(psutil.Error):
                times = process.cpu_times()
                self._ended[process.pid] = times.user + times.system
        return sum(self._ended.values())

    def descendants(self) -> list[psutil.Process]:
        """All but the first."""
        return self._processes()[1:]

    def memory_bytes(self) -> int:
        """Memory now: pages that several share are shared out among them."""
        return sum(rolled_up(process.pid, "Pss") for process in self._processes())

    def _processes(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            return []


class Meter:
    """CPU seconds and peak memory of a tree while it is entered; memory is read once a second."""

    def __init__(self, tree: ProcessTree) -> None:
        self.cpu_seconds = 0.0
        self.peak_bytes = 0
        self._tree = tree
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Meter":
        self._before = self._tree.cpu_seconds()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cpu_seconds = self._tree.cpu_seconds() - self._before
        self._stopped.set()
        self._thread.join()
        self.peak_bytes = max(self.peak_bytes, self._tree.memory_bytes())

    def _watch(self) -> None:
        while not self._stopped.wait(_INTERVAL_SECONDS):
            self.peak_bytes = max(self.peak_bytes, self._tree.memory_bytes())


def rolled_up(process_id: int, what: str) -> int:
    """A sum over the maps of a process in bytes, by its name in `smaps_rollup`; 0 where it has ended."""
    try:
        found = re.search(
            rf"^{what}:\s+(\d+) kB", Path(f"/proc/{process_id}/smaps_rollup").read_text(), re.MULTILINE
        )
    except OSError:
        return 0
    return int(found.group(1)) * 1024 if found else 0
