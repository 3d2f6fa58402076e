"""Where a request comes from: networks, and the client's address behind proxies that are trusted.

Addresses are compared as IPv4 wherever they can be: `::ffff:10.0.0.1` is 10.0.0.1.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from heliostat.serving.access.config import parse_network

UNKNOWN = "unknown"
"""The address of a request of which none can be told; it lies in no network."""
MAX_HOPS = 32
MAX_ADDRESS_CHARACTERS = 64

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_address(text: str) -> Address | None:
    """An address as people, sockets and proxies write it, maybe with port and brackets; None for garbage."""
    return _parse(text) if len(text) <= MAX_ADDRESS_CHARACTERS else None


@lru_cache(maxsize=8192)
def _parse(text: str) -> Address | None:
    text = text.strip(" \t").strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or ipaddress.IPv6Address(int(address))  # without the zone of a link
    return address


@dataclass(frozen=True)
class Networks:
    """Any of these."""

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> "Networks":
        """Of addresses and CIDRs.

        Raises:
            ValueError: one is no network.
        """
        return cls(tuple(parse_network(text) for text in texts))

    def __contains__(self, address: str) -> bool:
        parsed = parse_address(address)
        return parsed is not None and any(parsed in network for network in self.networks)

    def __bool__(self) -> bool:
        return bool(self.networks)


LOOPBACK = Networks.parse(("127.0.0.0/8", "::1"))


def names_this_machine(place: str) -> bool:
    """Whether an Origin (`http://localhost:3000`) or a Host (`127.0.0.1:8000`) means the machine itself."""
    try:
        host = urlsplit(place if "//" in place else f"//{place}").hostname or ""
    except ValueError:
        return False
    return host == "localhost" or host in LOOPBACK


def client_address(peer: str | None, forwarded_for: Iterable[str], trusted: Networks) -> str:
    """Who sent a request: the peer, or, where that is a trusted proxy, the rightmost hop that is not one.

    `forwarded_for` holds the values of all X-Forwarded-For headers in their order. What stands left of the
    first untrusted hop anybody can have written, so it is not looked at. UNKNOWN where a trusted proxy says
    nothing readable.
    """
    address = parse_address(peer or "")
    if address is None:
        return UNKNOWN
    current = str(address)
    if not trusted or current not in trusted:
        return current
    for hop in _from_the_right(forwarded_for):
        address = parse_address(hop)
        if address is None:
            return UNKNOWN
        current = str(address)
        if current not in trusted:
            return current
    return current


def _from_the_right(values: Iterable[str]) -> list[str]:
    """The last hops; more than `MAX_HOPS` end in one that cannot be read."""
    hops: list[str] = []
    for value in reversed(list(values)):
        hops += reversed(value.rsplit(",", MAX_HOPS))
        if len(hops) > MAX_HOPS:
            return [*hops[:MAX_HOPS], ""]
    return hops
