"""What runs beside the server: a cluster where none was named, and the collector that watches it."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dashboard.session import site
from dashboard.started import ADDRESS, started
from heliostat.control.collector import NO_CLUSTER as NONE_SET
from heliostat.control.collector import Collector
from heliostat.control.import_ahead import import_ahead
from heliostat.control.local_cluster import LocalCluster, find_local_cluster, start_local_cluster
from heliostat.errors import ClusterError

NO_CLUSTER = "HELIOSTAT_DASHBOARD_NO_CLUSTER"
END_SECONDS = 30.0


@contextmanager
def at_work() -> Iterator[None]:
    """Watch the cluster in a thread of its own, so that pages open at once; end with what was started."""
    stop = threading.Event()
    worker = threading.Thread(target=_work, args=(stop,), name="collector", daemon=True)
    worker.start()
    threading.Thread(target=import_ahead, args=(stop,), name="import ahead", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
        worker.join(END_SECONDS)


def _work(stop: threading.Event) -> None:
    own, why_none = None, NONE_SET
    if not started().address and os.environ.get(NO_CLUSTER) != "1":
        try:
            own = _cluster()
        except ClusterError as error:
            print(f"heliostat: no cluster of its own: {error}", file=sys.stderr, flush=True)
            why_none = str(error)
    try:
        Collector(site(), why_none).run(stop)
    finally:
        if own is not None:
            own.stop()


def _cluster() -> LocalCluster | None:
    """The local cluster that runs, or one that is started now and is to end with the dashboard (returned).

    Raises:
        ClusterError: it does not start; says why.
    """
    found = find_local_cluster()
    own = None
    if found is None:
        found = own = start_local_cluster(workspace=started().workspace)
    os.environ.update(found.environment())
    os.environ[ADDRESS] = found.address
    return own
