"""The token of a Ray cluster with authentication on. It is read, sent, and never shown."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from heliostat.errors import ClusterError
from heliostat.text.concealing import is_sendable

DEFAULT_PATH = "~/.ray/auth_token"
WHERE_IT_BELONGS = f"RAY_AUTH_TOKEN, the file named by RAY_AUTH_TOKEN_PATH, or {DEFAULT_PATH}"

_NO_TOKEN = "what {source} holds is no token: it has line breaks or characters that are not ASCII"


@dataclass(frozen=True)
class AuthToken:
    """A token and the place it was read from; only the place is fit for messages."""

    value: str = field(repr=False)
    source: str


def find_auth_token() -> AuthToken | None:
    """The token in the places where Ray looks, in Ray's order; None where there is none or none is wanted.

    Raises:
        ClusterError: RAY_AUTH_TOKEN_PATH names a file that cannot be read, or what is there is no token.
    """
    if os.environ.get("RAY_AUTH_MODE") == "disabled":
        return None
    value = os.environ.get("RAY_AUTH_TOKEN", "").strip()
    if value:
        return _token(value, "RAY_AUTH_TOKEN")
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named or DEFAULT_PATH).expanduser()
    try:
        value = path.read_text().strip()
    except UnicodeDecodeError:
        raise ClusterError(_NO_TOKEN.format(source=path)) from None
    except OSError as error:
        if not named:
            return None
        raise ClusterError(
            f"RAY_AUTH_TOKEN_PATH names {path}, which cannot be read: {error.strerror}"
        ) from None
    return _token(value, str(path)) if value else None


def _token(value: str, source: str) -> AuthToken:
    if not is_sendable(value):
        raise ClusterError(_NO_TOKEN.format(source=source))
    return AuthToken(value, source)
