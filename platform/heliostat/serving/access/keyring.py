"""Telling whose key a request bears. An unchanging set: a changed file makes another ring."""

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from heliostat.errors import ServingError
from heliostat.records import now
from heliostat.serving.access.addresses import Networks
from heliostat.serving.access.config import ROUTES
from heliostat.serving.access.key_records import DIGEST_BYTES, SALT_BYTES, KeyRecord, KeyScope, digest_of

MAX_KEY_BYTES = 1024
PLAIN_TENANT = "default"


@dataclass(frozen=True)
class PlainKeys:
    """The keys of a file with one a line, as hashes with a salt of this reading; each opens everything.

    They travel to the gateway's node with it, so the file need only be where the endpoint is started.
    """

    salt: bytes
    lines: tuple[tuple[bytes, int], ...]

    @classmethod
    def read(cls, path: str) -> "PlainKeys":
        """The keys in a file, one a line; empty lines and lines with # are skipped.

        Raises:
            ServingError: the file cannot be read, holds no key, or one that no header can carry.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise ServingError(f"api_key_file {path}: cannot be read: {reason}; give a text file") from None
        salt = secrets.token_bytes(SALT_BYTES)
        found: dict[bytes, int] = {}
        for number, line in enumerate(lines, start=1):
            key = line.strip().encode()
            if not key or line.startswith("#"):
                continue
            if len(key) > MAX_KEY_BYTES:
                raise ServingError(f"api_key_file {path}:{number}: a key has at most {MAX_KEY_BYTES} bytes")
            found.setdefault(digest_of(key, salt), number)
        if not found:
            raise ServingError(f"api_key_file {path}: holds no key; write one a line")
        return cls(salt, tuple(found.items()))


@dataclass(frozen=True, slots=True)
class _Entry:
    record: KeyRecord
    salt: bytes
    digest: bytes
    networks: Networks


class Keyring:
    """The keys of one moment."""

    def __init__(
        self,
        records: Iterable[KeyRecord] = (),
        plain: PlainKeys | None = None,
        before: "Keyring | None" = None,
    ) -> None:
        """Thousands take a part of a second: build it off the event loop. What the ring before this one had
        is taken over."""
        self.records = tuple(records)
        had = before._entries if before else {}
        self._entries: dict[bytes, _Entry] = {}
        for record in self.records:
            prefix = record.prefix.encode()
            old = had.get(prefix)
            self._entries[prefix] = old if old and old.record is record else _entry(record)
        self._plain = plain or PlainKeys(secrets.token_bytes(SALT_BYTES), ())
        self._plain_entries = {digest: _plain_entry(line) for digest, line in self._plain.lines}
        # Whoever presents a prefix that nobody has is compared with this, and takes as long.
        self._nobody = (secrets.token_bytes(SALT_BYTES), secrets.token_bytes(DIGEST_BYTES))

    def __len__(self) -> int:
        return len(self._entries) + len(self._plain_entries)

    def find(self, key: bytes) -> tuple[KeyRecord, Networks] | None:
        """Whose key this is, expired and revoked ones too, and from where it may be used; None for nobody's.

        The same hashes and a comparison in constant time, whatever is presented. That plain keys are looked
        up in a table tells nothing, as their hashes have a salt that nobody outside knows.
        """
        entry = self._entries.get(key.rpartition(b"-")[0])
        salt, digest = (entry.salt, entry.digest) if entry else self._nobody
        right = hmac.compare_digest(digest_of(key, salt), digest)
        plain = self._plain_entries.get(digest_of(key, self._plain.salt))
        found = entry if right else plain
        return (found.record, found.networks) if found else None


def _entry(record: KeyRecord) -> _Entry:
    return _Entry(
        record,
        bytes.fromhex(record.salt),
        bytes.fromhex(record.digest),
        Networks.parse(record.scope.networks),
    )


def _plain_entry(line: int) -> _Entry:
    """A key of the file is known by its line: its first letters would be a part of what must stay secret."""
    name = f"line-{line}"
    scope = KeyScope(name=name, tenant=PLAIN_TENANT, routes=ROUTES)
    record = KeyRecord(prefix=name, family=name, scope=scope, salt="00", digest="00", created_at=now())
    return _Entry(record, b"", b"", Networks())
