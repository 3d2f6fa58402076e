"""What an endpoint on Ray has just now, as its gateway tells."""

import time

from heliostat.control.serving import endpoints_at

REPLICA_SECONDS = 90


def versions_of(endpoint) -> list[dict]:
    """Its versions, oldest first, with their replicas."""
    return next(each for each in endpoints_at(endpoint.url) if each["name"] == endpoint.name)["versions"]


def wait_for_replicas(endpoint, count: int, without: int | None = None) -> list[dict]:
    """The newest version's replicas, when there are so many; the process `without` is none of them."""
    deadline = time.monotonic() + REPLICA_SECONDS
    while True:
        replicas = versions_of(endpoint)[-1]["replicas"]
        if len(replicas) == count and without not in [replica["process"] for replica in replicas]:
            return replicas
        assert time.monotonic() < deadline, versions_of(endpoint)
        time.sleep(0.1)
