"""Puts the command groups together and turns errors into lines and exit codes.

0: done. 1: a fault of ours, or a job that failed. 2: what the person who typed can mend. 130: interrupted.
"""

import sys
import traceback
from types import TracebackType
from typing import Annotated

import typer

import heliostat
from heliostat.cli import (
    alerts,
    cluster,
    control,
    dashboard,
    data,
    doctor,
    endpoints,
    evaluate,
    garbage,
    guard,
    jobs,
    keys,
    lineage,
    models,
    pipelines,
    recipes,
    review,
    runs,
    serve,
    train,
    versions,
)
from heliostat.errors import HeliostatError

# rich_markup_mode=None: typer's rich help doubles the time `--help` takes.
app = typer.Typer(
    name="heliostat",
    help=heliostat.__doc__,
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
)
app.command()(pipelines.run)
app.command()(pipelines.submit)
app.command()(control.control)
app.command()(recipes.validate)
app.command()(doctor.doctor)
app.command()(garbage.gc)
app.add_typer(alerts.app, name="alerts")
app.add_typer(recipes.app, name="config")
app.add_typer(cluster.app, name="cluster")
app.add_typer(dashboard.app, name="dashboard")
app.add_typer(data.app, name="data")
app.add_typer(endpoints.app, name="endpoints")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(guard.app, name="guard")
for command in (
    versions.register,
    versions.versions,
    versions.promote,
    versions.rollback,
    versions.delete,
    lineage.lineage,
    lineage.card,
):
    models.app.command()(command)
app.add_typer(jobs.app, name="jobs")
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(review.app, name="review")
app.add_typer(runs.app, name="runs")
app.add_typer(serve.app, name="serve")
app.add_typer(train.app, name="train")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"heliostat {heliostat.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks; may stand anywhere on the line.")
    ] = False,
) -> None:
    pass


def execute(arguments: list[str]) -> int:
    """Run one command line; returns the exit code. `--debug` counts wherever it stands."""
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not debug:
        sys.excepthook = _explain_fault
    command = typer.main.get_command(
        app
    )  # calling `app` itself would put typer's excepthook in place of ours
    try:
        command(arguments, prog_name="heliostat")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except HeliostatError as error:
        if debug:
            traceback.print_exception(error)
        for line in str(error).splitlines():
            print(f"heliostat: error: {line}", file=sys.stderr)
        return 2
    return 0


def _explain_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    lines = str(error).strip().splitlines()
    what = f"{kind.__name__}: {lines[0]}" if lines else kind.__name__
    print(
        f"heliostat: this is a fault of Heliostat's, not yours: {what} "
        "(the same command with --debug shows the traceback)",
        file=sys.stderr,
    )
