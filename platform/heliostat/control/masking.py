"""Addresses made fit to be shown: of databases, object stores and clusters."""

import re

_LOGIN = re.compile(r"//([^/:@?]*):.*@")
"""A password may hold what an address should not: up to the last @, rather too much is hidden."""
_SECRET = re.compile(r"([?&][\w.-]*(?:pass|pwd|secret|token|key|sas|sig)[\w.-]*=)[^&]*", re.IGNORECASE)


def masked(address: str) -> str:
    """`address` with stars for passwords and other secrets in it."""
    return _SECRET.sub(r"\1***", _LOGIN.sub(r"//\1:***@", address))
