"""`heliostat jobs`: what was handed in, what became of it, and what to do about it."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from heliostat.cli.arguments import Address, WorkspaceRoot
from heliostat.cli.columns import print_columns

if TYPE_CHECKING:
    from heliostat.control.sites import Site

app = typer.Typer(
    help="List jobs, follow, stop and retry them; the queue.", rich_markup_mode=None, no_args_is_help=True
)
JobId = Annotated[str, typer.Argument(metavar="ID", help="A job's id, as 'heliostat jobs list' prints it.")]


@app.command("list")
def list_all(
    address: Address = None,
    workspace: WorkspaceRoot = None,
    state: Annotated[list[str] | None, typer.Option(help="Only jobs in this state; may be repeated.")] = None,
    user: Annotated[str | None, typer.Option(help="Only this person's.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
) -> None:
    """List the jobs on record, the latest first; with a cluster's address they are brought up to date."""
    from heliostat.control.job_records import JobFilter, find_jobs

    site = _site(workspace, address)
    wanted = JobFilter(states=tuple(s.upper() for s in state) if state else None, user=user)
    rows = [
        (job.id, job.state, job.user, f"{job.created_at:%Y-%m-%d %H:%M}", job.reason)
        for job in find_jobs(site.store, wanted, limit)
    ]
    print_columns(("ID", "STATE", "USER", "SINCE (UTC)", "WHY"), rows)


@app.command()
def show(job_id: JobId, address: Address = None, workspace: WorkspaceRoot = None) -> None:
    """Print a job's record and what happened to it."""
    import yaml

    from heliostat.control.job_records import events_of, job_of
    from heliostat.job_folder import read_stages

    site = _site(workspace, address)
    job = job_of(site.store, job_id)
    values = job.model_dump(mode="json", exclude={"request", "recipe"}, exclude_none=True)
    stages = read_stages(site.workspace.storage, job_id)
    if stages is not None:
        values["stages"] = [f"{each.title}: {each.state} {each.says}".strip() for each in stages.stages]
    values["events"] = [
        f"{event.at:%Y-%m-%d %H:%M:%S} {event.text}" for event in events_of(site.store, job_id)
    ]
    print(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), end="")


@app.command()
def logs(
    job_id: JobId,
    address: Address = None,
    workspace: WorkspaceRoot = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it has ended.")] = False,
) -> None:
    """Print a job's output, kept even when the cluster is gone."""
    from heliostat.cli.pipelines import follow as follow_to_the_end
    from heliostat.cli.pipelines import follow_straight
    from heliostat.control.job_log import LogReader
    from heliostat.control.job_records import job_of
    from heliostat.control.ray_api import RayApi
    from heliostat.control.sites import address_of

    site = _recorded(workspace, address)
    if site is not None and follow:
        follow_to_the_end(site, job_id)
    elif site is not None:
        print(LogReader(site, job_id).more(job_of(site.store, job_id)), end="")
    elif follow:
        follow_straight(address_of(address), job_id)
    else:
        with RayApi(address_of(address)) as api:
            print(api.logs(job_id), end="")


@app.command()
def stop(job_id: JobId, address: Address = None, workspace: WorkspaceRoot = None) -> None:
    """Ask a job to end; it saves its last step first. One that waits never starts."""
    from heliostat.control.jobs import stop_job
    from heliostat.control.ray_jobs import stop_job as stop_straight
    from heliostat.control.roles import local_actor
    from heliostat.control.sites import address_of

    site = _recorded(workspace, address)
    if site is None:
        told = stop_straight(address_of(address), job_id)
        print(f"{job_id} {'STOPPING' if told else 'had ended before'}")
        return
    job = stop_job(site, local_actor(), job_id)
    print(f"{job.id} {job.state}")


@app.command()
def retry(
    job_id: JobId,
    address: Address = None,
    workspace: WorkspaceRoot = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not follow the job's log.")] = False,
) -> None:
    """Hand a job in again as it was; what was finished is found, training goes on from its checkpoint."""
    from heliostat.cli.pipelines import follow
    from heliostat.control.jobs import retry_job
    from heliostat.control.roles import local_actor

    site = _site(workspace, address)
    job = retry_job(site, local_actor(), job_id)
    print(f"job {job.id} {job.reason or 'submitted'}", flush=True)
    if not no_wait:
        follow(site, job.id)


@app.command()
def clone(
    job_id: JobId,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Changes to its recipe.")
    ] = None,
    address: Address = None,
    workspace: WorkspaceRoot = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not follow the job's log.")] = False,
) -> None:
    """Hand a job's recipe in again with changes, and with today's code."""
    from heliostat.cli.pipelines import follow
    from heliostat.control.jobs import clone_job
    from heliostat.control.roles import local_actor

    site = _site(workspace, address)
    job = clone_job(site, local_actor(), job_id, tuple(overrides or ()))
    print(f"job {job.id} {job.reason or 'submitted'}", flush=True)
    if not no_wait:
        follow(site, job.id)


@app.command()
def priority(
    job_id: JobId,
    value: Annotated[int, typer.Argument(metavar="N", help="From -10 to 10; the higher goes first.")],
    address: Address = None,
    workspace: WorkspaceRoot = None,
) -> None:
    """Give a job that waits another place in the queue. (Below 0: write -- before the id.)"""
    from heliostat.control.jobs import change_priority
    from heliostat.control.roles import local_actor

    job = change_priority(_site(workspace, address), local_actor(), job_id, value)
    print(f"{job.id} has priority {job.priority}")


@app.command()
def limits(
    total: Annotated[int | None, typer.Option(help="Jobs on the cluster at once.")] = None,
    per_user: Annotated[int | None, typer.Option(help="Jobs of one person on the cluster at once.")] = None,
    workspace: WorkspaceRoot = None,
) -> None:
    """Show how many jobs may be on the cluster at once, or change it."""
    from heliostat.control.job_queue import change_limits, read_limits
    from heliostat.control.roles import local_actor

    site = _site(workspace, None)
    found = read_limits(site.store)
    given = {"max_running": total, "max_running_per_user": per_user}
    changes = {name: value for name, value in given.items() if value is not None}
    if changes:
        found = found.model_copy(update=changes)
        change_limits(site.store, local_actor(), found)
    print(f"{found.max_running} jobs at once, {found.max_running_per_user} of one person")


def _site(workspace: str | None, address: str | None) -> "Site":
    """The site of the options; its jobs are brought up to what the cluster says, where one answers.

    Raises:
        ConfigError: the workspace, and with it the record, is not to be seen from here.
    """
    from heliostat.errors import ConfigError
    from heliostat.workspace import Workspace

    site = _recorded(workspace, address)
    if site is None:
        raise ConfigError(
            f"{Workspace.resolve(workspace).storage.root}: not to be seen from here, and the record of jobs "
            "lies in it; work where it is, name its database in HELIOSTAT_DATABASE, or ask 'ray job list'"
        )
    return site


def _recorded(workspace: str | None, address: str | None) -> "Site | None":
    """The same; None where the record is not to be seen from here, and only Ray can be asked."""
    import os

    from heliostat.control.job_watch import sync_jobs
    from heliostat.control.ray_api import RayApi, Unreachable
    from heliostat.control.sites import ADDRESS_VARIABLE, Site, recorded_site
    from heliostat.workspace import Workspace

    cluster = address or os.environ.get(ADDRESS_VARIABLE)
    there = os.path.isdir(Workspace.resolve(workspace).storage.root)
    site = Site.open(workspace, cluster) if there or not cluster else recorded_site(workspace, cluster)
    if site is not None and site.address is not None:
        try:
            with RayApi(site.address) as api:
                sync_jobs(site, api)
        except Unreachable as error:
            print(f"heliostat: {error}; shown is what is on record", file=sys.stderr)
    return site
