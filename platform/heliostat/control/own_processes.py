"""The processes of a local cluster: found by what cannot be mistaken, and ended.

Ray's processes start others, leave their process group and change their titles. They stay in the session that
their node was started in, or carry the mark that it was given in its environment; nothing else here does.
"""

import contextlib
import os
import signal
import time
from collections.abc import Sequence

import psutil

from heliostat.records import Record

MARK_VARIABLE = "HELIOSTAT_LOCAL_CLUSTER"
_CLOCK_SECONDS = 2.0
"""By so much two clocks of one machine may differ in when a process began."""


class OwnProcess(Record):
    """A process that was started here, with the moment it began: a process id alone may be somebody else's by
    now."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> "OwnProcess":
        """The process as it is now; one that has ended already was never created."""
        try:
            return cls(pid=pid, created=psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return cls(pid=pid, created=0.0)

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        try:
            found = psutil.Process(self.pid)
            return abs(found.create_time() - self.created) < _CLOCK_SECONDS and not _zombie(found)
        except psutil.NoSuchProcess:
            return False


def members(mark: str, leaders: Sequence[OwnProcess]) -> list[psutil.Process]:
    """All that runs of the cluster with this mark, whose nodes these processes were started as."""
    begun = {each.pid: each.created for each in leaders if each.created}
    return [process for process in psutil.process_iter() if _belongs(process, mark, begun)]


def end_processes(mark: str, leaders: Sequence[OwnProcess], patience_seconds: float = 3.0) -> None:
    """Ask the nodes to end, then end whatever is left of them. Returns when nothing is."""
    for leader in leaders:
        if leader.alive:
            _signal(leader.pid, signal.SIGTERM)
    deadline = time.monotonic() + patience_seconds
    while any(leader.alive for leader in leaders) and time.monotonic() < deadline:
        _reap(leaders)
        time.sleep(0.1)
    while left := members(mark, leaders):
        for process in left:
            _signal(process.pid, signal.SIGKILL)
        _reap(leaders)
        time.sleep(0.1)
    _reap(leaders)


def _belongs(process: psutil.Process, mark: str, begun: dict[int, float]) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        if _zombie(process):
            return False
        session = os.getsid(process.pid)
        if session in begun and process.create_time() >= begun[session] - _CLOCK_SECONDS:
            return True
        return bool(process.environ().get(MARK_VARIABLE) == mark)
    except (psutil.Error, OSError):  # ended meanwhile, or another person's
        return False


def _zombie(process: psutil.Process) -> bool:
    return bool(process.status() == psutil.STATUS_ZOMBIE)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _reap(leaders: Sequence[OwnProcess]) -> None:
    """Take the ends of this process's own children, so that they do not stay as zombies."""
    for leader in leaders:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(leader.pid, os.WNOHANG)
