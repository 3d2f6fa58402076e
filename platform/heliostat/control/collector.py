"""The one process that asks Ray. It writes down what it hears; whoever shows it reads that.

Several may run (a dashboard on each of two machines, `heliostat control`): a lease in the database makes one
of them ask, and another take over when that one ends.
"""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from heliostat.control.alert_watch import FAULTS, AlertWatch
from heliostat.control.alert_watch import READING as ALERTS
from heliostat.control.alerts import drop_old_alerts
from heliostat.control.cluster_course import EVERY_SECONDS, note_use, use_of
from heliostat.control.holders import submission_ids
from heliostat.control.job_queue import dispatch_due
from heliostat.control.job_watch import sync_jobs
from heliostat.control.ray_api import RayApi
from heliostat.control.ray_state import (
    Demand,
    Holder,
    Node,
    ServeState,
    read_demand,
    read_nodes,
    read_serve,
    who_holds,
)
from heliostat.control.readings import AWAY, Ok, Reading
from heliostat.control.run_index import sync_runs
from heliostat.control.sites import Site
from heliostat.control.store import Store
from heliostat.control.tables import leases
from heliostat.errors import StoreError

LEASE = "collector"
LEASE_SECONDS = 15.0
TICK_SECONDS = 0.5
ALERTS_KEPT = timedelta(days=90)
NO_CLUSTER = "no cluster is set; give --address, or set RAY_API_SERVER_ADDRESS"
logger = logging.getLogger(__name__)

NODES: TypeAdapter[tuple[Node, ...]] = TypeAdapter(tuple[Node, ...])
DEMAND: TypeAdapter[Demand] = TypeAdapter(Demand)
HOLDERS: TypeAdapter[tuple[Holder, ...]] = TypeAdapter(tuple[Holder, ...])
SERVE: TypeAdapter[ServeState] = TypeAdapter(ServeState)
CONTACT: TypeAdapter[str] = TypeAdapter(str)


@dataclass
class Task:
    """Something done every so many seconds; what it hears is kept under its name."""

    name: str
    every_seconds: float
    work: Callable[[Site], Any]
    of_cluster: bool = True
    """Whether it asks the cluster: where none is set, that is noted in its place."""
    due: float = field(default=0.0)


def read_cluster(store: Store) -> Reading[str]:
    """Whether the cluster answers: its Ray version, or since when it does not."""
    return store.reading("jobs", CONTACT)


def read_noted_nodes(store: Store) -> Reading[tuple[Node, ...]]:
    """The nodes as they were heard of last."""
    return store.reading("nodes", NODES)


def read_noted_demand(store: Store) -> Reading[Demand]:
    """What waits for room, as it was heard of last."""
    return store.reading("demand", DEMAND)


def read_noted_holders(store: Store) -> Reading[tuple[Holder, ...]]:
    """Who holds what, as it was heard of last."""
    return store.reading("holders", HOLDERS)


def read_noted_serve(store: Store) -> Reading[ServeState]:
    """Ray Serve's applications, as they were heard of last."""
    return store.reading("serve", SERVE)


class _RememberingApi(RayApi):
    """Keeps the list of jobs that it was given last."""

    heard: list[dict[str, Any]]

    def jobs(self) -> list[dict[str, Any]]:
        """What Ray knows about all jobs."""
        self.heard = super().jobs()
        return self.heard


class Collector:
    """Asks the cluster, serves the queue, keeps runs' index and the alerts, until it is told to stop."""

    def __init__(self, site: Site, no_cluster: str = NO_CLUSTER) -> None:
        """Nothing is asked yet. `no_cluster` is what is noted where `site` has no cluster: why."""
        self._site, self._no_cluster = site, no_cluster
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self._renewed = 0.0
        self._submissions: dict[str, str] | None = None
        self._tasks = (
            Task("jobs", 2.0, self._jobs),
            Task("nodes", 5.0, _ask(read_nodes, NODES)),
            Task("demand", 5.0, _ask(read_demand, DEMAND)),
            Task("holders", 5.0, _ask(self._holders, HOLDERS)),
            Task("serve", 5.0, _ask(read_serve, SERVE)),
            Task("runs", 2.0, sync_runs, of_cluster=False),
            Task("use", EVERY_SECONDS, _note_use, of_cluster=False),
            Task(ALERTS, 5.0, AlertWatch().look, of_cluster=False),
            Task("tidy", 600.0, _drop_old_alerts, of_cluster=False),
        )

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set. A database that is away is waited for."""
        try:
            while not stop.is_set():
                if self._holds_lease():
                    self._work(lambda: not stop.is_set() and self._keeps_lease())
                stop.wait(TICK_SECONDS)
        finally:
            self._let_go()

    def work_once(self) -> None:
        """Do everything that is due now, whoever has the lease."""
        self._work(lambda: True)

    def _work(self, may_go_on: Callable[[], bool]) -> None:
        for task in self._tasks:
            if time.monotonic() < task.due:
                continue
            if not may_go_on():  # a task before this one took long: another process asks by now, or we end
                return
            task.due = time.monotonic() + task.every_seconds
            now = datetime.now(UTC)
            if task.of_cluster and self._site.address is None:
                self._note_silence(task.name, self._no_cluster, now)
                continue
            try:
                heard = task.work(self._site)
                self._site.store.put_reading(task.name, heard, now)
            except StoreError:  # nowhere to note it; the next turn tries again
                return
            except AWAY as error:
                self._note_silence(task.name, str(error), now)
            except FAULTS as error:  # a mistake in one task must not end the others, which share a thread
                logger.exception("the collector's task '%s' failed; the others go on", task.name)
                self._note_silence(task.name, f"{type(error).__name__}: {error}", now)

    def _jobs(self, site: Site) -> str:
        """Serve the queue, and bring jobs up to what Ray says; the cluster's Ray version."""
        assert site.address is not None, "nothing is asked without one"
        with _RememberingApi(site.address) as api:
            version = api.check_version()
            sync_jobs(site, api, watches=True)
            self._submissions = submission_ids(api.heard)
        dispatch_due(site)
        return version

    def _holders(self, api: RayApi) -> tuple[Holder, ...]:
        """Who holds what, with the jobs as `_jobs` heard them: nothing is asked twice within two seconds."""
        return who_holds(api, self._submissions)

    def _note_silence(self, name: str, reason: str, since: datetime) -> None:
        try:
            self._site.store.put_unavailable(name, reason, since)
        except StoreError:
            return

    def _keeps_lease(self) -> bool:
        """As `_holds_lease`, between two tasks: together they may take longer than a lease lasts."""
        return time.monotonic() - self._renewed < LEASE_SECONDS / 3 or self._holds_lease()

    def _holds_lease(self) -> bool:
        """Whether this process is the one that asks; renews it where it is."""
        now = datetime.now(UTC)
        expires = now + timedelta(seconds=LEASE_SECONDS)
        mine = (leases.c.owner == self._owner) | (leases.c.expires < now)
        values = {"owner": self._owner, "expires": expires}
        try:
            with self._site.store.begin() as connection:
                # Read first: who waits for another's lease must not fill the database's log with refusals.
                there = connection.execute(select(leases).where(leases.c.name == LEASE)).first()
                if there is not None and there.owner != self._owner and there.expires >= now:
                    return False
                if there is None:
                    connection.execute(insert(leases).values(name=LEASE, **values))
                else:
                    change = update(leases).where(leases.c.name == LEASE, mine).values(**values)
                    if not connection.execute(change).rowcount:
                        return False
        except (StoreError, SQLAlchemyError):  # another has it, or the database is away
            return False
        self._renewed = time.monotonic()
        return True

    def _let_go(self) -> None:
        try:
            with self._site.store.begin() as connection:
                connection.execute(
                    delete(leases).where(leases.c.name == LEASE, leases.c.owner == self._owner)
                )
        except StoreError:
            return


def _ask(read: Callable[[RayApi], Any], adapter: TypeAdapter[Any]) -> Callable[[Site], Any]:
    def work(site: Site) -> Any:
        assert site.address is not None, "nothing is asked without one"
        with RayApi(site.address) as api:
            return adapter.dump_python(read(api), mode="json")

    return work


def _note_use(site: Site) -> None:
    """Keep a line of the cluster's use; none where its nodes were not heard of."""
    nodes = read_noted_nodes(site.store)
    if site.address is not None and isinstance(nodes, Ok):
        note_use(site.store, use_of(nodes.value, nodes.at), site.address)


def _drop_old_alerts(site: Site) -> None:
    drop_old_alerts(site.store, datetime.now(UTC) - ALERTS_KEPT)
