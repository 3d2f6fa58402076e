"""A file that is looked at again and again, and read when it has changed."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from heliostat.errors import HeliostatError, ServingError
from heliostat.storage import Storage, explain_os_errors

REMOTE_GRAIN_SECONDS = 3.0
"""Object stores tell times by the second; what was written just now may have been written again since."""

Stamp = tuple[float, ...]
logger = logging.getLogger(__name__)


class LiveFile:
    """One file of a storage."""

    def __init__(self, storage: Storage, path: str, take: Callable[[bytes, str], None], kept: str) -> None:
        """`take` gets the content and the URI whenever the content is another; `kept` says what stays when it
        cannot be read."""
        self.storage = storage
        self.path = path
        self._take = take
        self._kept = kept
        self._stamp: Stamp | None = None
        self._fault = ""

    @property
    def uri(self) -> str:
        """Where it is."""
        return self.storage.uri(self.path)

    def read(self, anew: bool = False) -> None:
        """Take the content if it has changed since the last time, or at any rate if it is to be read anew.
        Nothing happens where there never was a file.

        Raises:
            ServingError: it has vanished; or what `take` raises.
            StorageError: it cannot be read.
        """
        stamp = self._look()
        if stamp == (None if anew else self._stamp):
            return
        if stamp is None:
            raise ServingError(f"{self.uri}: has vanished; put it back, or restart the gateway without it")
        content = self.storage.read_bytes(self.path)
        self._stamp = stamp  # a damaged file is not taken again each second
        self._take(content, self.uri)

    def refresh(self) -> None:
        """As `read`; what is wrong is logged once, and what was taken before stays."""
        try:
            self.read()
            self._fault = ""
        except HeliostatError as error:
            if str(error) != self._fault:
                self._fault = str(error)
                logger.error("%s: %s", self._kept, error)

    def _look(self) -> Stamp | None:
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

    def _remote_stamp(self) -> Stamp | None:
        if not self.storage.exists(self.path):
            return None
        modified = self.storage.modified(self.path)
        return (modified, time.time() if time.time() - modified < REMOTE_GRAIN_SECONDS else 0.0)
