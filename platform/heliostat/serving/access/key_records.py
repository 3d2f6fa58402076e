"""What is kept of a key: what it opens, and a salted hash. The key itself is shown once and kept nowhere.

A key is `sk-hs-` and ten hexadecimal digits (its prefix, which may be shown), a dash, and 64 more: 256 random
bits. Nobody can guess among so many, so the hash need not be slow: BLAKE2b with a salt for each key. The form
is one that scanners for secrets, ours too, recognise.
"""

import hashlib
import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints, ValidationError

from heliostat.config import Config
from heliostat.errors import ConfigError, ServingError
from heliostat.records import Record, first_problem
from heliostat.serving.access.config import USER_ROUTES, Limits, Network, Route

KEYS_PATH = "gateway/keys.json"
HEAD = b'{"version":1,"keys":['
SALT_BYTES = 16
DIGEST_BYTES = 32
_PREFIX = re.compile(r"sk-hs-[0-9a-f]{10}")
_AGE = re.compile(r"([0-9]{1,5})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

KeyName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
Pattern = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,200}$")]
Hex = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2})+$")]


class KeyScope(Config):
    """What a key opens, for whom, from where, until when and how much of it."""

    name: KeyName
    tenant: KeyName
    models: tuple[Pattern, ...] = Field(default=("*",), min_length=1)
    """Patterns of model names, such as quick*; an adapter's name is the whole of ENDPOINT:ADAPTER."""
    routes: tuple[Route, ...] = Field(default=USER_ROUTES, min_length=1)
    networks: tuple[Network, ...] = ()
    """Addresses and CIDRs it may be used from; none means from everywhere."""
    limits: Limits = Limits()
    expires_at: AwareDatetime | None = None


class KeyRecord(Record):
    """One key, in the file."""

    prefix: str
    family: str
    """The prefix of the first key in a chain of rotations; its own when it replaced none."""
    scope: KeyScope
    salt: Hex
    digest: Hex
    created_at: AwareDatetime
    revoked_at: AwareDatetime | None = None

    def state(self, now: float) -> Literal["active", "expired", "revoked"]:
        """Whether it opens anything at a time, in seconds since 1970."""
        if self.revoked_at is not None:
            return "revoked"
        expires_at = self.scope.expires_at
        return "expired" if expires_at is not None and expires_at.timestamp() <= now else "active"


class KeyFile(Record):
    """All of them."""

    version: Literal[1]
    keys: tuple[KeyRecord, ...]


class KeyReader:
    """Reads the file again and again, and parses only the lines that are new.

    One key more among ten thousand takes some milliseconds instead of half a second, in which the interpreter
    would do nothing else.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, KeyRecord] = {}

    def read(self, content: bytes, uri: str) -> tuple[KeyRecord, ...]:
        """The records in a file's content.

        Raises:
            ServingError: it is not such a file, or holds a prefix twice.
        """
        lines = _record_lines(content)
        try:
            if lines is None:  # somebody has laid it out anew
                return _all_different(KeyFile.model_validate_json(content).keys, uri)
            known = {line: self._known.get(line) or KeyRecord.model_validate_json(line) for line in lines}
        except ValidationError as error:
            raise ServingError(
                f"{uri}: is no file of keys: {first_problem(error)}; restore it from a copy, or move it away "
                "and create keys anew"
            ) from None
        self._known = known
        return _all_different(tuple(known[line] for line in lines), uri)


def _record_lines(content: bytes) -> list[bytes] | None:
    """The lines of the records as `write_keys` lays them out; None when the file is laid out otherwise."""
    lines = content.split(b"\n")
    if len(lines) < 3 or lines[0] != HEAD or lines[-2:] != [b"]}", b""]:
        return None
    records = lines[1:-2]
    if records == [b""]:
        return []
    if records[-1].endswith(b",") or not all(line.endswith(b",") for line in records[:-1]):
        return None
    return [line.removesuffix(b",") for line in records]


def _all_different(records: tuple[KeyRecord, ...], uri: str) -> tuple[KeyRecord, ...]:
    if len({record.prefix for record in records}) < len(records):
        raise ServingError(f"{uri}: holds a key's prefix twice; remove one of the two records")
    return records


def write_keys(records: tuple[KeyRecord, ...]) -> bytes:
    """A file's content: a line for each record, in the order of their creation."""
    lines = ",\n".join(record.model_dump_json() for record in records)
    return HEAD + f"\n{lines}\n]}}\n".encode()


def make_key(scope: KeyScope, now: datetime, family: str | None = None) -> tuple[str, KeyRecord]:
    """A new key and what is kept of it."""
    prefix = f"sk-hs-{secrets.token_hex(5)}"
    key = f"{prefix}-{secrets.token_hex(32)}"
    salt = secrets.token_bytes(SALT_BYTES)
    record = KeyRecord(
        prefix=prefix,
        family=family or prefix,
        scope=scope,
        salt=salt.hex(),
        digest=digest_of(key.encode(), salt).hex(),
        created_at=now,
    )
    return key, record


def digest_of(key: bytes, salt: bytes) -> bytes:
    """The salted hash."""
    return hashlib.blake2b(key, salt=salt, digest_size=DIGEST_BYTES).digest()


def prefix_in(text: str) -> str:
    """The prefix that a person typed, or that of the whole key that he should not have typed.

    Raises:
        ConfigError: it has not the form of one; the message does not repeat what may be a key.
    """
    match = _PREFIX.match(text)
    if match is None:
        raise ConfigError(
            "that is not a key's prefix; write one such as sk-hs-0123456789, as 'heliostat keys list' does"
        )
    return match.group()


def duration_of(text: str) -> timedelta:
    """How long `30d`, `12h`, `90m`, `2w` or `0` is.

    Raises:
        ConfigError: it is none of these.
    """
    if text == "0":
        return timedelta()
    match = _AGE.fullmatch(text)
    if match is None:
        raise ConfigError(f"'{text}' is no length of time; write one such as 90m, 12h, 30d or 2w")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def moment_of(text: str, now: datetime) -> datetime:
    """When `30d` from now is, or the day `2026-12-31` ends (UTC).

    Raises:
        ConfigError: it is neither, or has passed.
    """
    try:
        moment = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
    except ValueError:
        moment = now + duration_of(text)
    if moment <= now:
        raise ConfigError(f"'{text}' has passed; give a later time")
    return moment
