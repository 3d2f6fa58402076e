"""The sessions that people have logged out of, in a file beside the accounts.

So a copy of their cookie stays worthless when the dashboard starts again, and for another one on the same
accounts.
"""

import logging
import threading
from pathlib import Path

from pydantic import Field, ValidationError

from heliostat.control.secret_files import locked, write_secret
from heliostat.errors import ConfigError, StorageError
from heliostat.records import Record, first_problem
from heliostat.storage import explain_os_errors

logger = logging.getLogger(__name__)


class EndedFile(Record):
    """When each session was ended, in seconds since 1970."""

    ended: dict[str, float] = Field(default_factory=dict)


class EndedSessions:
    """The ended sessions of one file; what others write to it counts at once."""

    def __init__(self, path: Path, kept_seconds: float) -> None:
        """Work on `path`, which need not be there yet. Behind `kept_seconds` a cookie is over by itself."""
        self.path = path
        self._kept_seconds = kept_seconds
        self._read_last: tuple[tuple[int, int, int] | None, dict[str, float]] = (None, {})
        self._unwritten: dict[str, float] = {}
        self._writing = threading.Lock()

    def __contains__(self, session: str) -> bool:
        """Whether it was ended.

        Raises:
            ConfigError: the file is not what we wrote.
        """
        return session in self._unwritten or session in self._in_file()

    def add(self, session: str, now: float) -> None:
        """End a session. Where that cannot be written it holds for this process, which says so in its log."""
        self._unwritten[session] = now
        try:
            with self._writing, locked(self.path):
                writes = dict(self._unwritten)
                all_of_them = {**self._in_file(), **writes}
                ended = {name: at for name, at in all_of_them.items() if at + self._kept_seconds > now}
                write_secret(self.path, EndedFile(ended=ended).model_dump_json().encode())
        except StorageError as error:
            logger.warning("a session ended for this process only: %s", error)
            return
        for name in writes:
            self._unwritten.pop(name, None)

    def _in_file(self) -> dict[str, float]:
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return {}
        seen = (stat.st_mtime_ns, stat.st_ino, stat.st_size)
        of, ended = self._read_last
        if seen == of:
            return ended
        with explain_os_errors(str(self.path)):
            content = self.path.read_bytes()
        try:
            ended = EndedFile.model_validate_json(content).ended
        except ValidationError as error:
            raise ConfigError(
                f"{self.path}: {first_problem(error)}; remove it and the accounts' key beside it, "
                "which ends all sessions"
            ) from None
        self._read_last = (seen, ended)
        return ended
