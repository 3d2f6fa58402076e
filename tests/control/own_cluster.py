"""`heliostat cluster up local` for a test: a state folder and a token of its own, and none of another's."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heliostat.control.local_cluster import LocalCluster, start_local_cluster
from heliostat.control.local_nodes import LocalSettings


@contextmanager
def own_place(folder: Path) -> Iterator[None]:
    """Where a cluster that starts within keeps what it knows of itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "keys" / "token"))
        for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        yield


@contextmanager
def own_cluster(folder: Path, nodes: int, autoscale: bool = False, **settings: int) -> Iterator[LocalCluster]:
    """A cluster of nodes of one CPU that ends with the block; `settings` are those of LocalSettings."""
    with own_place(folder):
        cluster = start_local_cluster(
            nodes, 1, autoscale, str(folder / "workspace"), LocalSettings(**settings)
        )
        try:
            yield cluster
        finally:
            cluster.stop()
