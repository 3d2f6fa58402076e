"""Whether a port can be listened on."""

import errno
import random
import socket

from heliostat.errors import ServingError

CHOSEN_PORTS = range(20000, 32768)
"""Below those that the kernel gives to outgoing connections (from 32768 on Linux), so that none of them takes
a port between its choice and the gateway's start; above Ray's own."""
LOST_AFTER_SECONDS = 60
"""A client that neither takes what was sent nor answers a probe for so long has gone without a word."""


def check_port_free(host: str, port: int) -> None:
    """Refuse a port that somebody listens on, before anything is started.

    Raises:
        ServingError: it is in use, or this machine does not have that address.
    """
    try:
        _bind(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} on {host} is in use; stop what listens there, or set port to another or 0"
        elif error.errno == errno.EACCES:
            reason = f"port {port} on {host} is not open to this user; set port to 1024 or above"
        else:
            reason = (
                f"cannot listen on {host}: {error.strerror or error}; set host to an address of this machine"
            )
        raise ServingError(reason) from None


def free_port(host: str) -> int:
    """A port that nobody listens on now.

    Raises:
        ServingError: this machine does not have that address, or all ports are taken.
    """
    for port in random.sample(CHOSEN_PORTS, len(CHOSEN_PORTS)):
        try:
            _bind(host, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise ServingError(
                f"cannot listen on {host}: {error.strerror or error}; set host to an address of this machine"
            ) from None
        return port
    raise ServingError(
        f"all ports from {CHOSEN_PORTS[0]} to {CHOSEN_PORTS[-1]} on {host} are in use; set port"
    )


def _bind(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Connections of a server that has just ended linger for a minute, and do not count as listening.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen(1)


def listening_socket(host: str, port: int, lost_after_seconds: int = LOST_AFTER_SECONDS) -> socket.socket:
    """A socket that several gateways of one node can share; the kernel spreads connections over them.

    Its connections end by themselves `lost_after_seconds` after the client's machine, or the way to it, was
    lost: nobody says so then, and the kernel's own patience is a quarter of an hour, or endless while the
    client waits.

    Raises:
        ServingError: it cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sends small writes at once; else each answer waits 40 ms for an ACK.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    _notice_lost_clients(listening, lost_after_seconds)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ServingError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; set port to another or 0"
        ) from None
    listening.setblocking(False)
    return listening


def _notice_lost_clients(listening: socket.socket, seconds: int) -> None:
    """Connections inherit these from the socket that they come in at."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    probes = max(1, seconds // 6)
    options = {
        "TCP_KEEPIDLE": max(1, seconds // 2),
        "TCP_KEEPINTVL": probes,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 1000 * seconds,
    }
    for name, value in options.items():
        if hasattr(socket, name):  # not everywhere under these names
            listening.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
