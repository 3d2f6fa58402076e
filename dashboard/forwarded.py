"""What a proxy in front of the dashboard says of a request: that it came by https, and from where.

Believed from the addresses that `heliostat dashboard --trusted-proxy` named; anybody else could say it too.
"""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import Scope

from heliostat.control.networks import is_among

SECURE = {"http": "https", "websocket": "wss"}
"""The scheme of each kind of connection over TLS."""
_PEER = "heliostat_peer"


def note_forwarded(scope: Scope, trusted: tuple[str, ...]) -> None:
    """Keep in a request's scope who asks; where it came to a trusted proxy by https, that it did."""
    client = scope.get("client")
    peer = str(client[0]) if client else ""
    headers = Headers(scope=scope)
    if is_among(peer, trusted):
        if headers.getlist("x-forwarded-proto") == ["https"]:
            scope["scheme"] = SECURE[scope["type"]]
        peer = _before(peer, ",".join(headers.getlist("x-forwarded-for")), trusted)
    scope[_PEER] = peer


def peer_of(scope: Mapping[str, object]) -> str:
    """The address that a request came from, as `note_forwarded` found it."""
    return str(scope.get(_PEER, ""))


def _before(peer: str, forwarded_for: str, trusted: tuple[str, ...]) -> str:
    """The last address of the list that is not a trusted proxy's; what stands before it anybody may write."""
    for address in reversed([each.strip() for each in forwarded_for.split(",") if each.strip()]):
        if not is_among(address, trusted):
            return address[:64]
    return peer
