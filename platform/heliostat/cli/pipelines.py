"""`heliostat run` and `heliostat submit`: the same recipe here or on a cluster."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from heliostat.cli.arguments import Address, Overrides, RecipePath, Until, WorkspaceRoot, check_until
from heliostat.errors import ClusterError

if TYPE_CHECKING:
    from heliostat.control.sites import Site


def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    workspace: WorkspaceRoot = None,
    until: Until = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Make everything again, even what is finished; not what a version or endpoint relies on.",
        ),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the endpoint answering until interrupted.")
    ] = False,
    promote: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Make what was trained the next version of NAME, its candidate."),
    ] = None,
) -> None:
    """Run a recipe on this machine, or on the Ray cluster at $RAY_ADDRESS."""
    from heliostat.job_folder import keep_output
    from heliostat.recipe import Recipe
    from heliostat.recipe_parts import check_layouts
    from heliostat.records import submission_id
    from heliostat.versions.names import check_name
    from heliostat.workspace import Workspace

    loaded = Recipe.load(recipe, tuple(overrides or ()))
    check_until(loaded, until)
    check_layouts(loaded.up_to(until))
    if promote is not None:
        check_name(promote)
    place = Workspace.resolve(workspace)
    place.storage.check_writable()
    if (job_id := submission_id()) is not None:
        from heliostat.control.kept_packages import keep_own_packages

        keep_output(place.storage, job_id)
        keep_own_packages(place.storage)

    from heliostat.pipeline import run_pipeline
    from heliostat.ray_session import ray_session

    _show_remarks()
    try:
        with ray_session():
            run_pipeline(loaded, place, until=until, force=force, keep=keep, promote=promote)
    except KeyboardInterrupt:
        print(
            "\nheliostat: interrupted; the same command goes on where it stopped", file=sys.stderr, flush=True
        )
        raise typer.Exit(130) from None


def _show_remarks() -> None:
    """Let the stages say on stderr why they make something again, and libraries nothing about themselves:
    torchao names each of its files for other machines, DeepSpeed that there is no GPU."""
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator" not in record.getMessage())
    remarks = logging.getLogger("heliostat")
    remarks.setLevel(logging.INFO)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("  %(message)s"))
    remarks.addHandler(handler)


def submit(
    recipe: RecipePath,
    overrides: Overrides = None,
    address: Address = None,
    workspace: WorkspaceRoot = None,
    until: Until = None,
    project: Annotated[
        str | None, typer.Option(help="What it belongs to [default: the recipe's name].")
    ] = None,
    priority: Annotated[int, typer.Option(help="From -10 to 10; the higher goes first.")] = 0,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not follow the job's log.")] = False,
    no_preflight: Annotated[
        bool, typer.Option("--no-preflight", help="Send it without the checks of 'heliostat validate'.")
    ] = False,
) -> None:
    """Run a recipe as a job on a Ray cluster, and follow its log."""
    from heliostat.control.ray_jobs import submit_job as submit_straight
    from heliostat.control.roles import local_actor
    from heliostat.control.sites import address_of, recorded_site
    from heliostat.control.submissions import Submission
    from heliostat.recipe import Recipe

    cluster = address_of(address)
    loaded = Recipe.load(recipe, tuple(overrides or ()))
    check_until(loaded, until)
    if not no_preflight:
        from heliostat.cli.checks import warn_before_submit

        warn_before_submit(cluster, loaded.up_to(until), workspace)
    submission = Submission(recipe, tuple(overrides or ()), workspace, until, project or "")
    site = recorded_site(workspace, cluster)
    if site is None:  # the workspace is the cluster's, and not to be seen from here
        job_id = submit_straight(cluster, submission)
        print(f"job {job_id} submitted to {cluster}", flush=True)
        if not no_wait:
            follow_straight(cluster, job_id)
        return

    from heliostat.control.jobs import submit_job

    job = submit_job(site, local_actor(), submission, priority)
    if job.state == "FAILED":
        raise ClusterError(job.reason)
    print(f"job {job.id} {job.reason or f'submitted to {cluster}'}", flush=True)
    if not no_wait:
        follow(site, job.id)


def follow(site: "Site", job_id: str) -> None:
    """Print a job's output until it ends; 1 is the exit code when it did not succeed."""
    from heliostat.control.jobs import follow_job

    with _stoppable(f"heliostat jobs stop {job_id}", job_id):
        job = follow_job(site, job_id, _show)
    _say_end(job.id, job.state, job.reason)


def follow_straight(address: str, job_id: str) -> None:
    """The same for a job of which no record is to be seen here: Ray's own log, while it has it."""
    from heliostat.control.ray_jobs import follow_job

    with _stoppable(f"ray job stop --address {address} {job_id}", job_id):
        job = follow_job(address, job_id, _show)
    _say_end(job_id, job.status, "" if job.status == "SUCCEEDED" else job.message)


def _show(text: str) -> None:
    print(text, end="", flush=True)


@contextmanager
def _stoppable(command: str, job_id: str) -> Iterator[None]:
    """Ctrl-C ends the following, not the job; `command` ends that."""
    try:
        yield
    except KeyboardInterrupt:
        print(
            f"\nheliostat: no longer following; job {job_id} goes on (to stop it: {command})", file=sys.stderr
        )
        raise typer.Exit(130) from None


def _say_end(job_id: str, state: str, reason: str) -> None:
    print(f"job {job_id} {state}" + (f": {reason}" if reason else ""), flush=True)
    if state != "SUCCEEDED":
        raise typer.Exit(1)
