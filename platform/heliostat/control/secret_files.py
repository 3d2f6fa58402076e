"""Files that only their owner may read: made with mode 0600, replaced as a whole."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from heliostat.errors import ConfigError
from heliostat.storage import explain_os_errors


def write_secret(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step; nobody else can read it at any time.

    Raises:
        StorageError: the place cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    with explain_os_errors(str(path)):
        _make_folder(path.parent)
        try:
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def secret_key(path: Path) -> bytes:
    """The 32 random bytes kept at `path`, made on the first call.

    Raises:
        ConfigError: others may read the file.
        StorageError: the place cannot be read or written.
    """
    with locked(path):
        if not path.exists():
            write_secret(path, secrets.token_bytes(32))
        with explain_os_errors(str(path)):
            if path.stat().st_mode & 0o077:
                raise ConfigError(f"{path}: others may read this secret; remove it, a new one will be made")
            return path.read_bytes()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time read and replace `path`.

    Raises:
        StorageError: the place cannot be written.
    """
    with explain_os_errors(str(path)):
        _make_folder(path.parent)
        stream = path.with_name(f".{path.name}.lock").open("a")
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
