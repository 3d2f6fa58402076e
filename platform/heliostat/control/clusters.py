"""What a cluster is called in records: a workspace's jobs may be on one while somebody asks another."""

import socket

from heliostat.control.local_cluster import find_local_cluster

_MOST = 255


def name_of(address: str) -> str:
    """The address itself; of this machine's local cluster, which has another port each time, always the same
    name."""
    local = find_local_cluster()
    if local is not None and local.address == address:
        return f"local cluster of {socket.gethostname()}"[:_MOST]
    return address[:_MOST]
