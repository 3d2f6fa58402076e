"""The processes of a deployment over time: what each part of it takes, and whether that grows."""

import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations

import psutil
from tests.bench.serving_usage import rolled_up

ROLES = (
    ("engine", re.compile(r"heliostat\.serving\.engines\.openvino_process")),
    ("gateway", re.compile(r"ray::ServeReplica:heliostat-gateway")),
    ("replica", re.compile(r"ray::ServeReplica:heliostat-")),
    ("controller", re.compile(r"ray::ControllerActor")),
    ("Ray: Serve", re.compile(r"ray::(ServeController|ProxyActor)")),
    ("Ray: raylet", re.compile(r"/raylet/raylet")),
    ("Ray: GCS", re.compile(r"gcs_server")),
    ("Ray: agents", re.compile(r"agent|monitor")),
)
OURS = ("gateway", "replica", "controller", "engine")
WARM_UP_SHARE = 0.25
"""Of a process's time: caches and pools fill."""
LEAST_SECONDS, LEAST_SAMPLES = 240.0, 8
"""A process that lived for less says nothing of growth."""
FLAT_BYTES, FLAT_SHARE = 8 * 2**20, 0.05
ROOM_BYTES = {"engine": 3 * 2**29}
"""What a part may take from its start on: an engine fills its cache of keys and values (1 GiB) by and by."""
MOST_MORE = 16
"""File descriptors or threads: so many more at the end are growth."""


@dataclass(frozen=True)
class Sample:
    """What a process takes at a moment; memory is what it alone has written to."""

    at: float
    num_bytes: int
    num_descriptors: int
    num_threads: int


@dataclass(frozen=True)
class Trend:
    """How one process went on."""

    role: str
    process_id: int
    seconds: float
    first_bytes: int
    last_bytes: int
    bytes_per_hour: float
    more_descriptors: int
    more_threads: int
    flat: bool

    @property
    def verdict(self) -> str:
        """In words."""
        if self.flat:
            return "flat"
        grown = f"grows by {self.bytes_per_hour / 2**20:.1f} MB/h"
        if max(self.more_descriptors, self.more_threads) > MOST_MORE:
            grown += f", {self.more_descriptors} descriptors, {self.more_threads} threads"
        return grown


class Watch:
    """Looks at all that this process has started, every so often, as a context manager."""

    def __init__(self, interval_seconds: float, also: dict[str, Callable[[], float]]) -> None:
        """`also` are other figures by name, such as the size of a log."""
        self.samples: dict[tuple[str, int], list[Sample]] = defaultdict(list)
        self.figures: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._also = also
        self._interval_seconds = interval_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        """Take a sample of everything now."""
        now = time.monotonic()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error, OSError):
                role = role_of(" ".join(process.cmdline()))
                if role:
                    taken = rolled_up(process.pid, "Private_Dirty")
                    sample = Sample(now, taken, process.num_fds(), process.num_threads())
                    self.samples[role, process.pid].append(sample)
        for name, figure in self._also.items():
            self.figures[name].append((now, figure()))

    def bytes_by_role(self) -> dict[str, int]:
        """Memory at the last look."""
        last = max((samples[-1].at for samples in self.samples.values()), default=0.0)
        found: dict[str, int] = defaultdict(int)
        for (role, _), samples in self.samples.items():
            if samples[-1].at == last:
                found[role] += samples[-1].num_bytes
        return found

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_seconds):
            self.look()


def role_of(command: str) -> str | None:
    """What a process is, by its command line."""
    return next((role for role, pattern in ROLES if pattern.search(command)), None)


def trends(samples: dict[tuple[str, int], list[Sample]]) -> list[Trend]:
    """Of each process that lived long enough, in the order of the roles."""
    order = [role for role, _ in ROLES]
    found = [trend_of(role, process_id, those) for (role, process_id), those in samples.items()]
    return sorted(
        (each for each in found if each), key=lambda each: (order.index(each.role), each.process_id)
    )


def too_short(samples: dict[tuple[str, int], list[Sample]]) -> dict[str, tuple[int, int]]:
    """The parts of which no process lived long enough: how many there were, and the most memory of one."""
    told = {trend.role for trend in trends(samples)}
    found: dict[str, tuple[int, int]] = {}
    for (role, _), those in samples.items():
        if role not in told:
            number, most = found.get(role, (0, 0))
            found[role] = number + 1, max(most, *(each.num_bytes for each in those))
    return found


def trend_of(role: str, process_id: int, samples: Sequence[Sample]) -> Trend | None:
    """How a process went on behind its warm-up; None when it was too short to say."""
    whole = samples[-1].at - samples[0].at
    warm = [each for each in samples if each.at - samples[0].at >= WARM_UP_SHARE * whole]
    seconds = warm[-1].at - warm[0].at
    if seconds < LEAST_SECONDS or len(warm) < LEAST_SAMPLES:
        return None
    fifth = max(1, len(warm) // 5)
    first, last = warm[:fifth], warm[-fifth:]
    slope = slope_of([(each.at, each.num_bytes) for each in warm])
    base = _middle([each.num_bytes for each in first])
    descriptors = _middle([s.num_descriptors for s in last]) - _middle([s.num_descriptors for s in first])
    threads = _middle([s.num_threads for s in last]) - _middle([s.num_threads for s in first])
    grown = slope * seconds > max(FLAT_BYTES, FLAT_SHARE * base)
    grown = grown and samples[-1].num_bytes - samples[0].num_bytes > ROOM_BYTES.get(role, 0)
    return Trend(
        role=role,
        process_id=process_id,
        seconds=whole,
        first_bytes=base,
        last_bytes=_middle([each.num_bytes for each in last]),
        bytes_per_hour=3600 * slope,
        more_descriptors=descriptors,
        more_threads=threads,
        flat=not grown and max(descriptors, threads) <= MOST_MORE,
    )


def slope_of(points: Sequence[tuple[float, float]], most: int = 200) -> float:
    """The median of the slopes between all pairs (Theil and Sen's), which a jump or two do not move."""
    step = max(1, len(points) // most)
    thinned = points[::step]
    slopes = sorted((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(thinned, 2) if b[0] > a[0])
    return slopes[len(slopes) // 2] if slopes else 0.0


def _middle(values: Sequence[int]) -> int:
    return sorted(values)[len(values) // 2]
