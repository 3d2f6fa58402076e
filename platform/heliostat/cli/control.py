"""`heliostat control`: the collector in the foreground, for a cluster without a dashboard."""

import signal
import threading

from heliostat.cli.arguments import Address, WorkspaceRoot


def control(address: Address = None, workspace: WorkspaceRoot = None) -> None:
    """Watch a cluster: serve the queue, keep the history and logs of jobs. Ctrl-C ends it."""
    from heliostat.control.collector import Collector
    from heliostat.control.sites import Site, address_of

    site = Site.open(workspace, address_of(address))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    print(f"watching {site.address} for {site.workspace.storage.root}; Ctrl-C ends it", flush=True)
    try:
        Collector(site).run(stop)
    except KeyboardInterrupt:
        stop.set()
