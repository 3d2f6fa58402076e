"""A file that is looked at again and again, and read when it has changed."""

import time
from pathlib import Path

from heliostat.storage import Storage, explain_os_errors

REMOTE_GRAIN_SECONDS = 3.0
"""Object stores tell times by the second; what was written just now may have been written again since."""

Stamp = tuple[float, ...]


class LiveFile:
    """One file of a storage."""

    def __init__(self, storage: Storage, path: str) -> None:
        self.storage = storage
        self.path = path

    @property
    def uri(self) -> str:
        """Where it is."""
        return self.storage.uri(self.path)

    def stamp(self) -> Stamp | None:
        """What differs when the file has changed; None where there is none. Microseconds on a local disk.

        Raises:
            StorageError: the place cannot be looked at.
        """
        if self.storage.remote:
            return self._remote_stamp()
        with explain_os_errors(self.uri):
            try:
                found = Path(self.uri).stat()
            except FileNotFoundError:
                return None
        return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)

    def read(self) -> bytes:
        """The content.

        Raises:
            StorageError: it cannot be read.
        """
        return self.storage.read_bytes(self.path)

    def _remote_stamp(self) -> Stamp | None:
        if not self.storage.exists(self.path):
            return None
        modified = self.storage.modified(self.path)
        return (modified, time.time() if time.time() - modified < REMOTE_GRAIN_SECONDS else 0.0)
