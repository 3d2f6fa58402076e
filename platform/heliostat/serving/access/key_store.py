"""The keys of a workspace: making, revoking and rotating them, and following their file in a gateway."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta

from heliostat.errors import BusyError, ConfigError, StorageError
from heliostat.locks import lock
from heliostat.records import now
from heliostat.serving.access.key_records import (
    KEYS_PATH,
    KeyReader,
    KeyRecord,
    KeyScope,
    make_key,
    prefix_in,
    write_keys,
)
from heliostat.serving.access.keyring import Keyring, PlainKeys
from heliostat.serving.access.live_file import LiveFile
from heliostat.storage import Storage

LOCK_SECONDS = 10.0


class KeyStore:
    """The file of keys in a workspace, and beside it the keys of an `api_key_file`, which are only read.

    On an object store, which has no locks, the later of two changes at the same moment wins.
    """

    def __init__(self, storage: Storage | None = None, plain: PlainKeys | None = None) -> None:
        """Read what is there; without a storage there are only the plain keys.

        Raises:
            ServingError: the file is damaged or of another version.
            StorageError: it cannot be read.
        """
        self._plain = plain
        self._reader = KeyReader()
        self.ring = Keyring((), plain)
        self._file: LiveFile | None = None
        if storage:
            kept = "keys are not renewed, those read before stay"
            self._file = LiveFile(storage, KEYS_PATH, self._take, kept)
            self._file.read()
        self._had_keys = len(self.ring) > 0

    @property
    def required(self) -> bool:
        """Whether requests need a key: from the first one on, even if all are taken out of the file."""
        return self._had_keys

    def refresh(self) -> None:
        """Read the file again if it has changed. What is wrong with it then is logged once, and the keys
        read before stay."""
        if self._file:
            self._file.refresh()
        self._had_keys = self._had_keys or len(self.ring) > 0

    def records(self) -> tuple[KeyRecord, ...]:
        """All keys in the file, in the order of their creation.

        Raises:
            ServingError, StorageError: as when the store is opened.
        """
        if self._file:
            self._file.read()
        return self.ring.records

    def create(self, scope: KeyScope) -> tuple[str, KeyRecord]:
        """A new key, which is returned here and never again, and its record.

        Raises:
            ServingError, StorageError: the file is damaged, or cannot be written.
        """
        with self._changing() as (records, write):
            key, record = _unused(scope, records)
            write((*records, record))
        return key, record

    def revoke(self, prefix: str) -> KeyRecord:
        """End a key; gateways notice within a second or two. One that is revoked stays as it is.

        Raises:
            ConfigError: there is no such key.
        """
        with self._changing() as (records, write):
            found = _named(prefix, records)
            if found.revoked_at is not None:
                return found
            ended = found.model_copy(update={"revoked_at": now()})
            write(tuple(ended if record is found else record for record in records))
        return ended

    def rotate(self, prefix: str, grace: timedelta) -> tuple[str, KeyRecord, KeyRecord]:
        """A new key that opens what the old one does and as long from now; the old one ends after `grace`.

        Both count against the same limits. Returns the key, its record, and the old one's.

        Raises:
            ConfigError: there is no such key, or it has ended already.
        """
        with self._changing() as (records, write):
            found = _named(prefix, records)
            state = found.state(time.time())
            if state != "active":
                raise ConfigError(f"{found.prefix} is {state} and cannot be rotated; create a new key")
            key, record = _unused(_renewed(found), records, found.family)
            ended = _ending(found, now() + grace)
            write((*(ended if each is found else each for each in records), record))
        return key, record, ended

    @contextmanager
    def _changing(self) -> Iterator[tuple[tuple[KeyRecord, ...], Callable[[tuple[KeyRecord, ...]], None]]]:
        """The records, read under a lock that is held until they are written."""
        assert self._file is not None, "keys are changed in a workspace"
        file = self._file
        with _lock_in_time(file.storage):
            file.read(anew=True)  # a change is made to what is there now, or not at all
            yield self.ring.records, lambda records: file.storage.write_bytes(file.path, write_keys(records))

    def _take(self, content: bytes, uri: str) -> None:
        self.ring = Keyring(self._reader.read(content, uri), self._plain, before=self.ring)


def _unused(
    scope: KeyScope, records: tuple[KeyRecord, ...], family: str | None = None
) -> tuple[str, KeyRecord]:
    taken = {record.prefix for record in records}
    while True:
        key, record = make_key(scope, now(), family)
        if record.prefix not in taken:
            return key, record


def _named(prefix: str, records: tuple[KeyRecord, ...]) -> KeyRecord:
    wanted = prefix_in(prefix)
    for record in records:
        if record.prefix == wanted:
            return record
    raise ConfigError(f"there is no key {wanted}; 'heliostat keys list' shows all")


def _renewed(record: KeyRecord) -> KeyScope:
    ends = record.scope.expires_at
    return record.scope.model_copy(
        update={"expires_at": None if ends is None else now() + (ends - record.created_at)}
    )


def _ending(record: KeyRecord, moment: datetime) -> KeyRecord:
    if moment <= now():
        return record.model_copy(update={"revoked_at": now()})
    ends = record.scope.expires_at
    scope = record.scope.model_copy(update={"expires_at": min(ends, moment) if ends else moment})
    return record.model_copy(update={"scope": scope})


@contextmanager
def _lock_in_time(storage: Storage) -> Iterator[None]:
    """The file's lock, waited for; another command holds it for milliseconds."""
    deadline = time.monotonic() + LOCK_SECONDS
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(lock(storage, KEYS_PATH))
                break
            except BusyError:
                if time.monotonic() > deadline:
                    raise StorageError(
                        f"{storage.uri(KEYS_PATH)}: another command has been changing it for "
                        f"{LOCK_SECONDS:.0f} s; wait for it or stop it"
                    ) from None
        yield
