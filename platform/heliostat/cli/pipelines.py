"""`heliostat run` and `heliostat submit`: the same recipe here or on a cluster."""

import logging
import sys
from typing import Annotated

import typer

from heliostat.cli.arguments import Overrides, RecipePath, Until, WorkspaceRoot, check_until


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
    from heliostat.recipe import Recipe, check_layouts
    from heliostat.records import submission_id
    from heliostat.versions.names import check_name
    from heliostat.workspace import Workspace

    loaded = Recipe.load(recipe, tuple(overrides or ()))
    check_until(loaded, until)
    check_layouts(loaded)
    if promote is not None:
        check_name(promote)
    place = Workspace.resolve(workspace)
    place.storage.check_writable()
    if (job_id := submission_id()) is not None:
        keep_output(place.storage, job_id)

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
    """Let the stages say on stderr why they make something again."""
    remarks = logging.getLogger("heliostat")
    remarks.setLevel(logging.INFO)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("  %(message)s"))
    remarks.addHandler(handler)


def submit(
    recipe: RecipePath,
    address: Annotated[
        str, typer.Option(help="The head node's dashboard, for example http://127.0.0.1:8265.")
    ],
    overrides: Overrides = None,
    workspace: WorkspaceRoot = None,
    until: Until = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not follow the job's log.")] = False,
) -> None:
    """Run a recipe as a job on a Ray cluster, and follow its log."""
    from heliostat.control.jobs import Submission, submit_job
    from heliostat.recipe import Recipe

    check_until(Recipe.load(recipe, tuple(overrides or ())), until)
    submission = Submission(recipe, tuple(overrides or ()), workspace, until)
    job_id = submit_job(address, submission)
    print(f"job {job_id} submitted to {address}", flush=True)
    if not no_wait:
        _follow(address, job_id)


def _follow(address: str, job_id: str) -> None:
    from heliostat.control.jobs import follow_job

    try:
        job = follow_job(address, job_id, lambda text: print(text, end="", flush=True))
    except KeyboardInterrupt:
        print(
            f"\nheliostat: no longer following; job {job_id} goes on (to stop it: "
            f"ray job stop --address {address} {job_id})",
            file=sys.stderr,
        )
        raise typer.Exit(130) from None
    print(f"job {job.id} {job.status}" + (f": {job.message}" if job.message else ""), flush=True)
    if job.status != "SUCCEEDED":
        raise typer.Exit(1)
