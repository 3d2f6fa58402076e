"""The edge: the only file of this room that imports Ray. Tasks go through Ray Data, one a batch."""

import json
import logging
import pickle
from collections.abc import Iterator, Sequence

import pyarrow as pa
import ray
import ray.data

from heliostat import errors
from heliostat.config import Resources
from heliostat.data.tasks import Runner, Statistics, Task, run_task
from heliostat.progress import progress
from heliostat.ray_session import options_of


def ray_runner(resources: Resources) -> Runner:
    """A runner that gives each task these resources and runs as many at a time as fit the cluster."""

    def run_all(tasks: Sequence[Task], title: str) -> Iterator[Statistics]:
        if not tasks:
            return
        _be_quiet()
        # Arrow holds the tasks as bytes: as columns of values they would all need the same type
        items = [{"task": pickle.dumps(task)} for task in tasks]
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _run_batch, batch_size=1, batch_format="pyarrow", **options_of(resources)
        )
        with progress(title, len(tasks), "shards") as report:
            for done, row in enumerate(dataset.iter_rows(), start=1):
                _raise_if_failed(row)
                report(done)
                yield json.loads(row["statistics"])

    return run_all


def _run_batch(batch: pa.Table) -> pa.Table:
    """A foreseen error travels as a row: Ray would wrap an exception into pages of traceback."""
    rows = []
    for packed in batch["task"].to_pylist():
        try:
            rows.append(
                {"statistics": json.dumps(run_task(pickle.loads(packed))), "error": "", "message": ""}
            )
        except errors.HeliostatError as error:
            rows.append({"statistics": "", "error": type(error).__name__, "message": str(error)})
    return pa.Table.from_pylist(rows)


def _raise_if_failed(row: dict[str, str]) -> None:
    if row["error"]:
        raise getattr(errors, row["error"])(row["message"])


def _be_quiet() -> None:
    """Ray Data narrates each execution on the terminal; our own progress says it in one line."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
