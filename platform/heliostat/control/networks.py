"""Whether an address is one of those that an operator named."""

import ipaddress
from collections.abc import Iterable


def check_networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    """The networks as they were given.

    Raises:
        ValueError: one is none, or is everybody.
    """
    for network in networks:
        if ipaddress.ip_network(network).prefixlen == 0:
            raise ValueError(f"{network} is everybody; name the proxy's own addresses")
    return networks


def is_among(peer: str | None, networks: Iterable[str]) -> bool:
    """Whether an IP address lies in one of the networks. A socket that takes both kinds of addresses gives
    10.0.0.1 as ::ffff:10.0.0.1."""
    try:
        address = ipaddress.ip_address(peer or "")
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return any(
        each in ipaddress.ip_network(network) for network in networks for each in {address, mapped or address}
    )
