"""Finding and redacting personal data: e-mail and IP addresses.

The borders of a match are spelt out in ASCII, because `\\b` sees no border between a Chinese character and
a Latin one. Loopback and unspecified addresses belong to nobody and stay.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["email", "ip"]

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])"
    r"[A-Za-z0-9_%+-]{1,64}(?:\.[A-Za-z0-9_%+-]{1,64}){0,8}"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}"
    r"(?![A-Za-z0-9@-])"
)
# A letter in front makes it a version (v1.2.3.4); a fifth number makes it something else.
_IPV4 = re.compile(r"(?<![A-Za-z0-9_.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![A-Za-z0-9_]|\.[0-9])")
_IPV6 = re.compile(r"(?<![A-Za-z0-9_:.])[0-9A-Fa-f:]{3,39}(?![A-Za-z0-9_:]|\.[0-9])")


@dataclass(frozen=True)
class Span:
    """Where personal data of a kind stands: text[start:end]."""

    kind: Kind
    start: int
    end: int


def find_pii(text: str, kinds: Iterable[Kind] = ("email", "ip")) -> list[Span]:
    """All spans of the given kinds, in order, none overlapping."""
    spans: list[Span] = []
    if "email" in kinds:
        spans += [Span("email", *match.span()) for match in _EMAIL.finditer(text)]
    if "ip" in kinds:
        for pattern in (_IPV4, _IPV6):
            matches = pattern.finditer(text)
            spans += [Span("ip", *match.span()) for match in matches if _is_someones_address(match.group())]
    found: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if not found or span.start >= found[-1].end:
            found.append(span)
    return found


def redact(text: str, spans: list[Span]) -> str:
    """The text with `[EMAIL]` or `[IP]` in place of each span of `find_pii`."""
    pieces, done = [], 0
    for span in spans:
        pieces += [text[done : span.start], f"[{span.kind.upper()}]"]
        done = span.end
    return "".join([*pieces, text[done:]])


def _is_someones_address(candidate: str) -> bool:
    try:
        address = ipaddress.ip_address(candidate)
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified:
        return False
    # `Abc::def` is C++ and `1::2` a slice: a shortened IPv6 address counts from three groups on.
    return address.version == 4 or len([group for group in candidate.split(":") if group]) >= 3
