"""Finding e-mail and IP addresses.

The borders of a match are spelt out in ASCII, because `\\b` sees no border between a Chinese character and
a Latin one. Loopback and unspecified addresses belong to nobody and stay.
"""

import ipaddress
import re
from collections.abc import Iterator

from heliostat.text.pii_context import names_a_version
from heliostat.text.pii_outline import Outline, Place

_LOCAL_CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-"
_LOCAL = re.compile(r"[A-Za-z0-9_%+-]{1,64}(?:\.[A-Za-z0-9_%+-]{1,64}){0,8}")
_LONGEST_LOCAL = 9 * 65
_AT_DOMAIN = re.compile(
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9@-])"
)

# From the last digit of the first number on.
_FOUR_NUMBERS = re.compile(rb"0\.0{1,3}\.0{1,3}\.0")
_IPV4 = re.compile(r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![A-Za-z0-9_]|\.[0-9])")
# A letter in front makes it a version (v1.2.3.4); a dot, the rest of a longer one.
_NO_IPV4_BEHIND = frozenset("._" + _LOCAL_CHARACTERS[:62])

# Every IPv6 address has a group with colons on both sides: a shortened one counts from three groups on.
_INNER_GROUP = re.compile(r":[0-9A-Fa-f]{1,4}:")
_HEXADECIMAL = "0123456789ABCDEFabcdef:"
_LONGEST_IPV6 = 39
_REST_OF_IPV6 = re.compile(rf"[{_HEXADECIMAL}]{{0,{_LONGEST_IPV6 + 1}}}")
_GOES_ON = re.compile(r"[A-Za-z0-9_:]|\.[0-9]")
_NO_IPV6_BEHIND = _NO_IPV4_BEHIND | {":"}


def find_emails(outline: Outline) -> Iterator[Place]:
    """E-mail addresses: a sign `@` with a domain behind and a local part in front of it."""
    text = outline.text
    if "@" not in text:
        return
    done = 0
    for domain in _AT_DOMAIN.finditer(text):
        at = domain.start()
        before = text[max(0, at - _LONGEST_LOCAL - 1) : at]
        local = before[len(before.rstrip(_LOCAL_CHARACTERS)) :]
        start = at - len(local)
        if start >= done and _LOCAL.fullmatch(local):
            done = domain.end()
            yield start, done


def find_ips(outline: Outline) -> Iterator[Place]:
    """IPv4 and IPv6 addresses that are somebody's, private networks included, and no version numbers."""
    if b"0.0" in outline.shape:
        yield from _find_ipv4(outline)
    if outline.ascii.count(b":") >= 2:
        yield from _find_ipv6(outline.text)


def _find_ipv4(outline: Outline) -> Iterator[Place]:
    text, shape = outline.text, outline.shape
    for match in _FOUR_NUMBERS.finditer(shape):
        start = match.start()
        for _ in range(2):
            if shape[start - 1 : start] == b"0":
                start -= 1
        if text[start - 1 : start] in _NO_IPV4_BEHIND:
            continue
        found = _IPV4.match(text, start)
        if found and _is_someones(found.group()) and not names_a_version(text, start):
            yield found.span()


def _find_ipv6(text: str) -> Iterator[Place]:
    done = 0
    while match := _INNER_GROUP.search(text, done):
        before = text[max(0, match.start() - _LONGEST_IPV6 - 1) : match.start()]
        start = match.start() - len(before) + len(before.rstrip(_HEXADECIMAL))
        rest = _REST_OF_IPV6.match(text, match.start())
        done = rest.end() if rest else match.end()
        if text[start - 1 : start] in _NO_IPV6_BEHIND or _GOES_ON.match(text, done):
            continue
        candidate = text[start:done]
        # `Abc::def` is C++ and `1::2` a slice.
        shortened = "::" in candidate
        if shortened and len([group for group in candidate.split(":") if group]) < 3:
            continue
        if (shortened or candidate.count(":") == 7) and _is_someones(candidate):
            yield start, done


def _is_someones(candidate: str) -> bool:
    try:
        address = ipaddress.ip_address(candidate)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)
