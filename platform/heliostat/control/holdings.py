"""Whose work holds a cluster's CPUs and GPUs: its holders, put together by job, sweep or endpoint."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from heliostat.control.holders import Holder
from heliostat.control.job_records import ACTIVE, JobFilter, JobRecord, find_jobs
from heliostat.control.readings import Reading, take
from heliostat.control.run_index import RunFilter, find_runs
from heliostat.control.sites import Site
from heliostat.endpoints import read_deployments
from heliostat.errors import ArtifactError, StorageError

OwnerKind = Literal["job", "sweep", "endpoint", "application", "driver"]
_REPLICA = re.compile(r"SERVE_REPLICA::([^#]+)#")
"""Ray Serve names a replica's actor, and the group that holds for it, so; the application's name is first."""


@dataclass(frozen=True)
class Owner:
    """Whose it is. `id` opens its page: a job's, a sweep's run's, an endpoint's name. An application of Ray
    Serve's that is no endpoint of this workspace, and a driver that nobody submitted, have no page."""

    kind: OwnerKind
    id: str
    name: str
    user: str = ""


@dataclass(frozen=True)
class Holding:
    """What an owner holds on all nodes together, or (`waits`) wants and has not got."""

    owner: Owner
    cpus: float
    gpus: float
    waits: bool
    holders: tuple[Holder, ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        """The ids of the nodes it is on."""
        return tuple(dict.fromkeys(each.node_id for each in self.holders if each.node_id))


def find_holdings(site: Site, holders: Sequence[Holder]) -> tuple[Holding, ...]:
    """The holders by owner: what holds before what waits, those with the most GPUs, then CPUs, first.

    Raises:
        StoreError: the database is away.
    """
    known = _Known.of(site)
    found: dict[tuple[Owner, bool], list[Holder]] = {}
    for each in holders:
        found.setdefault((known.owner(each), each.waits), []).append(each)
    holdings = [
        Holding(
            owner=owner,
            cpus=sum(each.cpus for each in theirs),
            gpus=sum(each.gpus for each in theirs),
            waits=waits,
            holders=tuple(theirs),
        )
        for (owner, waits), theirs in found.items()
    ]
    return tuple(sorted(holdings, key=lambda each: (each.waits, -each.gpus, -each.cpus, each.owner.id)))


def read_holdings(site: Site, holders: Sequence[Holder]) -> Reading[tuple[Holding, ...]]:
    """The same for pages: a database that is away is a reason, not an error."""
    return take(lambda: find_holdings(site, holders))


@dataclass(frozen=True)
class _Known:
    """What is on record of those that may hold something."""

    jobs: Mapping[str, JobRecord]
    sweeps: Mapping[str, str]
    """The run of each job that searches now."""
    endpoints: Mapping[str, str]
    """The endpoint of each application."""

    @classmethod
    def of(cls, site: Site) -> "_Known":
        jobs = find_jobs(site.store, JobFilter(states=ACTIVE))
        searching = find_runs(site.store, RunFilter(stages=("tune",), statuses=("running",)))
        sweeps = {run.provenance.ray_job_id: run.id for run in searching if run.provenance.ray_job_id}
        return cls({job.id: job for job in jobs}, sweeps, endpoints_by_application(site))

    def owner(self, holder: Holder) -> Owner:
        replica = _REPLICA.search(holder.name)
        if replica:
            name = self.endpoints.get(replica[1])
            return Owner("endpoint", name, name) if name else Owner("application", "", replica[1])
        job = self.jobs.get(holder.job_id)
        if job is None:
            return Owner("driver", "", holder.job_id)
        sweep = self.sweeps.get(job.id)
        return Owner("sweep" if sweep else "job", sweep or job.id, job.name, job.user)


def endpoints_by_application(site: Site) -> dict[str, str]:
    """The workspace's endpoint of each application of Ray Serve's; none where the records cannot be read."""
    found: dict[str, str] = {}
    with suppress(ArtifactError, StorageError):  # who holds what is told all the same
        for record in read_deployments(site.workspace):
            apps = [record.endpoint.app_name, *(each.app_name for each in record.versions)]
            found |= dict.fromkeys(apps, record.endpoint.name)
    return found
