"""Who may ask: the keys of one file, kept as SHA-256 digests, compared in constant time."""

import hashlib
import hmac
from dataclasses import dataclass
from pathlib import Path

from heliostat.errors import ServingError


@dataclass(frozen=True)
class ApiKeys:
    """The digests of the accepted keys."""

    digests: tuple[bytes, ...]

    @classmethod
    def read(cls, path: str) -> "ApiKeys":
        """The keys in a file, one a line; empty lines and lines with # are skipped.

        Raises:
            ServingError: the file cannot be read or holds no key.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise ServingError(f"api_key_file {path}: cannot be read: {reason}; give a text file") from None
        keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not keys:
            raise ServingError(f"api_key_file {path}: holds no key; write one a line")
        return cls(tuple(_digest(key) for key in keys))

    def accept(self, authorization: str | None) -> bool:
        """Whether an Authorization header carries one of the keys."""
        scheme, _, key = (authorization or "").partition(" ")
        given = _digest(key.strip())
        matches = [hmac.compare_digest(given, digest) for digest in self.digests]  # each one, found or not
        return scheme.lower() == "bearer" and any(matches)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
