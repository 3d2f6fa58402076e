"""What may be shown of addresses and keys that come from a person's environment."""

import re

_PASSWORD = re.compile(r"://([^/:@?#]*):.*@")
_SECRET_OPTION = re.compile(
    r"([?&][^=&#]*(?:pass|pwd|secret|token|key|sas|sig)[\w.-]*=)[^&#]*", re.IGNORECASE
)
_WITH_PASSWORD = re.compile(r"[A-Za-z][\w+.-]*://[^/?#\s]*:[^/?#\s]*@")


def without_secrets(url: str) -> str:
    """A URL as it may stand in a message: `***` for its password and for options that hold a secret.

    A password that is not written %40 for @ and %2F for / is hidden all the same, up to the last @. A path is
    shown as it is.
    """
    if url.startswith("/") and not url.startswith("//"):
        return url  # a folder
    if "://" not in url:
        return "***"
    return _SECRET_OPTION.sub(r"\1***", _PASSWORD.sub(r"://\1:***@", url))


def holds_password(url: str) -> bool:
    """Whether a URL names a password before its host."""
    return _WITH_PASSWORD.match(url) is not None


def is_sendable(key: str) -> bool:
    """Whether a key can be sent in a header. Where it cannot, HTTP clients show it in their complaint."""
    return bool(key) and key.isascii() and key.isprintable()
