"""Asks the rules what is wrong now and keeps the alerts by what they say: one of the collector's tasks.

What it needs to know the next time, the collector notes: another process that takes over goes on from
there. A rule that cannot look stops no other; its alerts stay as they are, and that it cannot is noted.
"""

import logging
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, TypeAdapter

from heliostat.control.alert_rules import (
    DiskUse,
    cluster_alerts,
    disk_alerts,
    endpoint_alerts,
    job_alerts,
    launch_alerts,
    node_alerts,
    pending_alerts,
)
from heliostat.control.alerts import Blind, Finding, find_alerts, ripen, settle, subject_of
from heliostat.control.demand import Demand
from heliostat.control.endpoint_state import EndpointState
from heliostat.control.endpoints import EndpointReader
from heliostat.control.holders import Holder
from heliostat.control.job_records import JobFilter, JobRecord, find_jobs
from heliostat.control.nodes import Node
from heliostat.control.readings import Ok, Reading, Unavailable, latest
from heliostat.control.run_alerts import run_alerts
from heliostat.control.run_facts import RunReader
from heliostat.control.run_index import RunFilter, find_runs
from heliostat.control.sites import Site
from heliostat.control.store import Store
from heliostat.control.webhook import Post, post_due, posts_of
from heliostat.control.work_page import failure_of, open_work
from heliostat.endpoints import read_deployments
from heliostat.errors import ClusterError, HeliostatError, ServingError, StoreError
from heliostat.records import Record, Run
from heliostat.text.one_line import fit

T = TypeVar("T")
READING = "alerts"
RECENT = timedelta(hours=24)
"""What ended longer ago is no news: its alert closes."""
STALE_SECONDS = 60.0
"""After so long without a turn nobody looks any more."""
WAIT_SECONDS = 2.0
"""For the gateways' answers; what comes later counts at the next turn."""
MOST_NOTES = 20
FAULTS = (HeliostatError, OSError, LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
"""What may be wrong with one rule or one task, or with what one file holds, and must not stop the others."""
FULL_LIST = 10_000
_OF_INTEREST = ("running", "failed", "stopped")
_RUN_RULES = ("NanLoss", "LossSpike", "TrainingStalls", "OutOfMemory", "TrainingFailed", "StageFailed")
_JOB_RULES = ("JobFailed", "OutOfMemory")
_ENDPOINT_RULES = (
    "EndpointDown",
    "EndpointLocked",
    "NoReplica",
    "EndpointErrors",
    "EndpointSlow",
    "FirstTokenSlow",
)
logger = logging.getLogger(__name__)


class WatchState(Record):
    """What is noted between two turns. `notes` say which rules could not look, and what was not posted."""

    notes: tuple[str, ...] = ()
    seen: dict[str, float] = Field(default_factory=dict)
    waiting: tuple[Post, ...] = ()


STATE: TypeAdapter[WatchState] = TypeAdapter(WatchState)


def read_watch(store: Store) -> Reading[WatchState]:
    """When the rules were asked last, and what was wrong with them."""
    return store.reading(READING, STATE)


@dataclass
class _Looked:
    """What one turn has found so far."""

    site: Site
    now: datetime
    already_told: frozenset[str]
    """The subjects of the alerts that are open."""
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    blind: Blind = field(default_factory=Blind)
    told_jobs: set[str] = field(default_factory=set)
    """Whose failure a run tells."""

    def at(self, rules: Iterable[str], look: Callable[[], Iterable[Finding]], subject: str = "") -> None:
        """Ask some rules, about everything or about one subject."""
        try:
            self.findings += look()
        except FAULTS as error:
            where = f" at {subject}" if subject else ""
            said = str(error) if isinstance(error, HeliostatError) else f"{type(error).__name__}: {error}"
            self.notes.append(fit(f"{', '.join(rules)} could not look{where}: {said}", 500))
            self.blind |= Blind(subjects=frozenset([subject])) if subject else Blind(frozenset(rules))


class AlertWatch:
    """Looks at one site, turn by turn."""

    def __init__(self) -> None:
        """Nothing has been looked at."""
        self._runs = RunReader()
        self._last_words: dict[str, str] = {}
        self._endpoints: tuple[Site, EndpointReader] | None = None
        self._asked: Future[Reading[tuple[EndpointState, ...]]] | None = None
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="alerts")

    def look(self, site: Site) -> dict[str, Any]:
        """One turn: what is to be noted under READING.

        Raises:
            StoreError: the database is away.
        """
        now = datetime.now(UTC)
        known = latest(read_watch(site.store))
        before = known.value if known else WatchState()
        opened = find_alerts(site.store, limit=FULL_LIST)
        looked = _Looked(site, now, frozenset(alert.subject for alert in opened))
        looked.at(_RUN_RULES, lambda: self._look_at_runs(looked))
        looked.at(_JOB_RULES, lambda: self._look_at_jobs(looked))
        _look_at_cluster(looked)
        looked.at(_ENDPOINT_RULES, lambda: self._of_endpoints(site))
        ripe, seen = ripen(looked.findings, opened, before.seen, now)
        seen |= {key: at for key, at in before.seen.items() if key.partition(" ")[0] in looked.blind.rules}
        changes = settle(site.store, ripe, now, looked.blind)
        waiting, refusals = post_due((*before.waiting, *posts_of(changes)))
        notes = (*looked.notes, *refusals)
        for note in notes:
            if note not in before.notes:
                logger.warning("alerts: %s", note)
        state = WatchState(notes=notes[:MOST_NOTES], seen=seen, waiting=waiting)
        return state.model_dump(mode="json")

    def _look_at_runs(self, looked: _Looked) -> list[Finding]:
        """Those that run or ended badly of late; one whose files are broken hides no other."""
        site, wanted = looked.site, RunFilter(statuses=_OF_INTEREST, open_after=looked.now - RECENT)
        runs = find_runs(site.store, wanted, FULL_LIST)
        self._runs.keep_only({run.id for run in runs})
        for run in runs:
            told, subject = len(looked.findings), subject_of("run", run.id)
            looked.at(_RUN_RULES, partial(self._of_run, looked, run), subject)
            stays = subject in looked.blind.subjects and subject in looked.already_told
            if (stays or len(looked.findings) > told) and run.provenance.ray_job_id:
                looked.told_jobs.add(run.provenance.ray_job_id)
        return []

    def _of_run(self, looked: _Looked, run: Run) -> list[Finding]:
        if run.parent and run.status != "running":  # a sweep has thousands, and no rule speaks of one
            return []
        return run_alerts(self._runs.facts_of(looked.site, run), looked.now)

    def _look_at_jobs(self, looked: _Looked) -> list[Finding]:
        recent = find_jobs(looked.site.store, JobFilter(changed_after=looked.now - RECENT), FULL_LIST)
        retried = {job.parent for job in recent if job.parent and job.relation == "retry"}
        failed = [job for job in recent if job.state in ("FAILED", "LOST")]
        words = {job.id: self._words_of(looked.site, job) for job in failed}
        self._last_words = words
        return job_alerts(failed, retried, looked.told_jobs, words)

    def _words_of(self, site: Site, job: JobRecord) -> str:
        """A failed job's last words; its log is read once."""
        if job.id in self._last_words:
            return self._last_words[job.id]
        try:
            return failure_of(site, open_work(site, job.id))[0]
        except StoreError:
            raise
        except HeliostatError:  # its log is out of reach; what Ray said of it stands in the record
            return job.reason

    def _of_endpoints(self, site: Site) -> list[Finding]:
        """Gateways are asked in a thread beside: one that hangs must not keep the queue of jobs waiting."""
        records = read_deployments(site.workspace)
        if self._endpoints is None or self._endpoints[0] != site:
            self._endpoints, self._asked = (site, EndpointReader(site)), None
        if self._asked is None:
            self._asked = self._pool.submit(self._endpoints[1].read)
        asked = self._asked
        if not wait([asked], WAIT_SECONDS).done:
            raise ServingError("the gateways have not answered yet")
        self._asked = None  # whatever came of it: the next turn asks anew
        reading = asked.result()
        if isinstance(reading, Unavailable):
            raise ServingError(reading.reason)
        forgotten = {each.endpoint.name for each in records if each.stopped_at is not None}
        return endpoint_alerts(reading.value, forgotten)


def _look_at_cluster(looked: _Looked) -> None:
    site, store = looked.site, looked.site.store
    nodes = store.reading("nodes", TypeAdapter(tuple[Node, ...]))
    demand = store.reading("demand", TypeAdapter(Demand))
    there = latest(nodes)
    alive = there.value if there and site.address else ()
    looked.at(("DiskAlmostFull",), lambda: disk_alerts(alive, _own_disk(site)))
    if site.address is None:
        return
    recent = RECENT.total_seconds()

    def known() -> tuple[Node, ...]:
        return _known(nodes)

    looked.at(("HeadLost",), lambda: cluster_alerts(store.reading("jobs", TypeAdapter(str))))
    looked.at(("NodeDown",), lambda: node_alerts(known(), looked.now, recent))
    looked.at(("NodesFail",), lambda: launch_alerts(_known(demand)))
    looked.at(("WorkPendsForLong",), lambda: _pending(store, _known(demand)))


def _pending(store: Store, demand: Demand) -> list[Finding]:
    holders = latest(store.reading("holders", TypeAdapter(tuple[Holder, ...])))
    pending = find_jobs(store, JobFilter(states=("PENDING",)), FULL_LIST)
    return pending_alerts(demand, holders.value if holders else (), pending)


def _known(reading: Ok[T] | Unavailable[T]) -> T:
    """The last word there is; of nothing at all nothing can be said."""
    known = latest(reading)
    if known is None:
        raise ClusterError(reading.reason if isinstance(reading, Unavailable) else "nothing is noted")
    return known.value


def _own_disk(site: Site) -> DiskUse | None:
    root = site.workspace.storage.root
    if site.workspace.storage.remote or not Path(root).is_dir():
        return None
    use = shutil.disk_usage(root)
    reserved = max(0, use.total - use.used - use.free)
    return DiskUse(name=root, used_bytes=use.used, total_bytes=use.total, reserved_bytes=reserved)
