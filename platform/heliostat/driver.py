"""The process that runs a cluster of its own, noted so that it can be told later whether it lives."""

import os
import socket
from pathlib import Path

from heliostat.records import Record

STARTED_WITHIN_SECONDS = 1.0
"""A process that started at another time than noted, by more than this, only has the number of that one."""
_BOOT_ID, _NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


class Driver(Record):
    """The cluster and its endpoints end with this process, however it ends."""

    process: int
    started: float
    """In seconds after the machine's boot, which no change of its clock alters."""
    host: str
    machine: str
    """Which boot of which machine, and which process namespace: there the number means this process."""

    @classmethod
    def here(cls) -> "Driver":
        """This process."""
        process = os.getpid()
        return cls(
            process=process, started=_started(process), host=socket.gethostname(), machine=_this_machine()
        )

    @property
    def alive(self) -> bool | None:
        """Whether it lives; None where that cannot be told: from another machine, or after a reboot."""
        import psutil

        if self.machine != _this_machine():
            return None
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's, which psutil may see or not
            pass
        try:
            zombie = psutil.Process(self.process).status() == psutil.STATUS_ZOMBIE
            return not zombie and abs(_started(self.process) - self.started) <= STARTED_WITHIN_SECONDS
        except psutil.Error:
            return None


def _started(process: int) -> float:
    import psutil

    return round(float(psutil.Process(process).create_time() - psutil.boot_time()), 2)


def _this_machine() -> str:
    if _BOOT_ID.exists():
        return f"{_BOOT_ID.read_text().strip()} {os.readlink(_NAMESPACE)}"
    return socket.gethostname()
