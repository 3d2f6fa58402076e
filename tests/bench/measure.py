"""Wall time, CPU time and peak memory of a command and everything it starts, Ray's daemons included.

Processes are recognised by an environment variable, which even a daemon in a session of its own inherits, or
by their parent: a process that sets its title may overwrite its environment.
"""

import os
import re
import resource
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_MARK = "HELIOSTAT_BENCH_RUN"
_INTERVAL_SECONDS = 0.2
_SHARE_OF_A_CORE = 0.03
_GROWTH = 1.02
_FIGURE = re.compile(rb"^(\w+):\s+(\d+) kB", re.MULTILINE)
_TICK = os.sysconf("SC_CLK_TCK")
_SHARED_MEMORY = "/dev/shm"


@dataclass(frozen=True)
class Usage:
    """What a command took. `shared_bytes`: the part of the peak in shared memory, the object store's."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    shared_bytes: int
    exit_code: int
    timeline: tuple[tuple[float, float], ...] = ()
    """Now and then the time by `time.monotonic` and the CPU time until then."""

    def cpu_between(self, start: float, end: float) -> float:
        """CPU seconds between two times, as exactly as the sampling has it."""
        before = max((cpu for at, cpu in self.timeline if at <= start), default=0.0)
        return max((cpu for at, cpu in self.timeline if at <= end + _INTERVAL_SECONDS), default=0.0) - before

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {name: value for name, value in asdict(self).items() if name != "timeline"}


@dataclass(frozen=True)
class Disturbance:
    """What is done to a command's processes after some time: it gets the ids of all of them, again and again
    until it says that it has done it."""

    after_seconds: float
    action: Callable[[list[int]], bool]


class CommandFailed(RuntimeError):
    """A measured command ended with another code than 0; the message ends with its last lines."""


def run_measured(
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str] | None = None,
    disturbance: Disturbance | None = None,
) -> Usage:
    """Run a command to its end, its output in `log`.

    Raises:
        CommandFailed: it failed by itself: not by SIGKILL after a disturbance.
    """
    mark = uuid.uuid4().hex
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {}), _MARK: mark},
            start_new_session=True,
        )
        with _Sampler(mark) as sampler:
            disturber = _Disturber(disturbance, sampler)
            disturber.start()
            try:
                process.wait()
            except BaseException:
                kill_all(sampler.processes())
                raise
            finally:
                disturber.stop()
            wall = time.monotonic() - started
            _wait_for_all(sampler)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    waited_for = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if not disturber.done:
        raise CommandFailed(f"{command[0]} ended before anything could be done to it")
    if process.returncode and not (disturbance and process.returncode == -signal.SIGKILL):
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise CommandFailed(f"{command[0]} ended with {process.returncode}; the end of {log}:\n{tail}")
    # Sampling misses what ends between two samples; waiting misses daemons. Each sees what the other doesn't.
    cpu = max(sampler.cpu_seconds, waited_for)
    timeline = tuple(sampler.timeline)
    return Usage(wall, cpu, sampler.peak_bytes, sampler.shared_bytes, process.returncode, timeline)


def kill_all(processes: list[int]) -> bool:
    """SIGKILL them."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return bool(processes)


def kill_a_ray_worker(processes: list[int]) -> bool:
    """SIGKILL one that works on a Ray task, so that Ray runs the task again."""
    for process in processes:
        with suppress(OSError):
            title = Path(f"/proc/{process}/cmdline").read_bytes()
            # The node dies with its agents, which have such a title, too.
            if title.startswith(b"ray::") and not re.match(rb"ray::(IDLE|\w*Agent)", title):
                os.kill(process, signal.SIGKILL)
                return True
    return False


class _Disturber(threading.Thread):
    """Carries a disturbance out while a command runs."""

    def __init__(self, disturbance: Disturbance | None, sampler: "_Sampler") -> None:
        super().__init__(daemon=True)
        self.done = disturbance is None
        self._disturbance, self._sampler = disturbance, sampler
        self._over = threading.Event()

    def run(self) -> None:
        """Wait, then try until it is done or the command has ended."""
        if self._disturbance is None or self._over.wait(self._disturbance.after_seconds):
            return
        while not self.done and not self._over.is_set():
            self.done = self._disturbance.action(self._sampler.processes())
            self._over.wait(0 if self.done else _INTERVAL_SECONDS)

    def stop(self) -> None:
        """The command has ended."""
        self._over.set()
        self.join()


class _Sampler:
    """Reads /proc five times a second while it is entered.

    Anonymous memory is read each time. What is counted double, pages shared by forked processes and mapped
    files, is corrected by proportional set sizes, which are dearer to read: now and then, and whenever there
    would be a new peak by more than 2 %.
    """

    def __init__(self, mark: str) -> None:
        self.peak_bytes = self.shared_bytes = 0
        self._mark = f"{_MARK}={mark}".encode()
        self.timeline: list[tuple[float, float]] = []
        self._cpu: dict[tuple[int, str], float] = {}
        self._others: set[tuple[int, str]] = set()
        self._alive: set[int] = set()
        self._shared_before = _shared_memory_bytes()
        self._file_bytes, self._anonymous_ratio, self._next_proportional = 0.0, 1.0, 0.0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "_Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all processes seen, as it last was."""
        return sum(self._cpu.values())

    def processes(self) -> list[int]:
        """The ids of all that run now, zombies left out."""
        entries = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        with self._lock:
            self._alive = {process for process in entries if self._belongs(process)}
            return sorted(self._alive)

    def _belongs(self, process: int) -> bool:
        try:
            state, parent, *fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
            key = (process, fields[17].decode())
            if key in self._others:
                return False
            if key not in self._cpu and int(parent) not in self._alive:
                variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
                if self._mark not in variables:
                    self._others.add(key)
                    return False
        except (OSError, ValueError, IndexError):
            return False  # it ended meanwhile, or belongs to another user
        self._cpu[key] = (int(fields[9]) + int(fields[10])) / _TICK
        return state != b"Z"

    def _run(self) -> None:
        while not self._stopped.wait(_INTERVAL_SECONDS):
            self._sample(self.processes())
            self.timeline.append((time.monotonic(), self.cpu_seconds))

    def _sample(self, processes: list[int]) -> None:
        anonymous = sum(_figures(process, "status").get("RssAnon", 0) for process in processes)
        shared = max(0, _shared_memory_bytes() - self._shared_before)

        def total() -> float:
            return anonymous * self._anonymous_ratio + self._file_bytes + shared

        due = time.monotonic() >= self._next_proportional or total() > _GROWTH * self.peak_bytes
        if anonymous and due:
            self._read_proportional(processes, anonymous)
        if total() > self.peak_bytes:
            self.peak_bytes, self.shared_bytes = int(total()), shared

    def _read_proportional(self, processes: list[int], anonymous: int) -> None:
        started = time.monotonic()
        figures = [_figures(process, "smaps_rollup") for process in processes]
        self._file_bytes = sum(of_process.get("Pss_File", 0) for of_process in figures)
        proportional = sum(of_process.get("Pss_Anon", 0) for of_process in figures)
        self._anonymous_ratio = min(1.0, proportional / anonymous)
        now = time.monotonic()
        self._next_proportional = now + (now - started) / _SHARE_OF_A_CORE


def _figures(process: int, name: str) -> dict[str, int]:
    """The lines of a file in /proc that give kB, in bytes; nothing for a process that has ended."""
    try:
        content = Path(f"/proc/{process}/{name}").read_bytes()
    except OSError:
        return {}
    return {label.decode(): int(value) * 1024 for label, value in _FIGURE.findall(content)}


def _shared_memory_bytes() -> int:
    usage = os.statvfs(_SHARED_MEMORY)
    return (usage.f_blocks - usage.f_bfree) * usage.f_frsize


def _wait_for_all(sampler: _Sampler) -> None:
    """Give what the command started 20 seconds to end, then end it: what comes next wants the machine."""
    give_up = time.monotonic() + 20
    while sampler.processes():
        if time.monotonic() > give_up:
            kill_all(sampler.processes())
        time.sleep(0.1)
