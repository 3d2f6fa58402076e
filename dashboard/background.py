"""What runs beside the server: a cluster where none was named, and the collector that watches it."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from dashboard.session import site
from dashboard.started import ADDRESS, started
from heliostat.control.collector import Collector
from heliostat.control.local_cluster import LocalCluster, find_local_cluster, start_local_cluster
from heliostat.errors import ClusterError, StoreError

NO_CLUSTER = "HELIOSTAT_DASHBOARD_NO_CLUSTER"
END_SECONDS = 30.0


@contextmanager
def at_work() -> Iterator[None]:
    """Watch the cluster in a thread of its own, so that pages open at once; end with what was started."""
    stop = threading.Event()
    worker = threading.Thread(target=_work, args=(stop,), name="collector", daemon=True)
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join(END_SECONDS)


def _work(stop: threading.Event) -> None:
    own = None if started().address or os.environ.get(NO_CLUSTER) == "1" else _cluster()
    try:
        Collector(site()).run(stop)
    finally:
        if own is not None:
            own.stop()


def _cluster() -> LocalCluster | None:
    """The local cluster that runs, or one that is started now and is to end with the dashboard (returned)."""
    found = find_local_cluster()
    own = None
    try:
        if found is None:
            found = own = start_local_cluster(workspace=started().workspace)
    except ClusterError as error:
        print(f"heliostat: no cluster of its own: {error}", file=sys.stderr, flush=True)
        _note(str(error))
        return None
    os.environ.update(found.environment())
    os.environ[ADDRESS] = found.address
    return own


def _note(reason: str) -> None:
    """Let the pages say why there is no cluster."""
    try:
        site().store.put_unavailable("jobs", reason, datetime.now(UTC))
    except StoreError:
        return
