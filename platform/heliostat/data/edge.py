"""The edge: the only file of this room that imports Ray. Tasks go through Ray Data, one a batch."""

import json
import logging
import pickle
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import ray
import ray.data

from heliostat import errors
from heliostat.config import Resources
from heliostat.data.keys import read_array, write_array
from heliostat.data.minhash import NO_KEY
from heliostat.data.near_decision import NearWork
from heliostat.data.near_dedup import Candidates, merge, pairs_in_buckets
from heliostat.data.pace import Pace
from heliostat.data.tasks import Runner, Statistics, Task, run_task
from heliostat.progress import progress
from heliostat.ray_session import options_of
from heliostat.storage import Storage

GONE = -1
"""The rank of a document that meets nobody any more."""
Log = Callable[[dict[str, float]], None]
LOG_EVERY_SECONDS = 10.0


def ray_runner(resources: Resources, log: Log) -> Runner:
    """A runner that gives each task these resources and runs as many at a time as fit the cluster.

    Rates and drops go to the terminal as they come, and to `log` every ten seconds and at the end.
    """

    def run_all(tasks: Sequence[Task], title: str) -> Iterator[Statistics]:
        if not tasks:
            return
        _be_quiet()
        # Arrow holds the tasks as bytes: as columns of values they would all need the same type
        items = [{"task": pickle.dumps(task)} for task in tasks]
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _run_batch, batch_size=1, batch_format="pyarrow", **options_of(resources)
        )
        pace, logged = Pace(title), time.monotonic()
        with progress(title, len(tasks), "tasks") as report:
            for done, row in enumerate(dataset.iter_rows(), start=1):
                _raise_if_failed(row)
                statistics = json.loads(row["statistics"])
                pace.add(statistics)
                report(done, pace.note)
                if done == len(tasks) or time.monotonic() - logged > LOG_EVERY_SECONDS:
                    log(pace.metrics())
                    logged = time.monotonic()
                yield statistics

    return run_all


def num_nodes() -> int:
    """The nodes of this cluster that are up."""
    return sum(node["Alive"] for node in ray.nodes())


def nominate_by_shuffle(near: NearWork) -> Candidates:
    """Pairs of positions that share a band key, found on all nodes. Comes to the same as `nominate_here`.

    Only keys are shuffled, 26 bytes a document and band; texts and signatures stay where they are.
    """
    _be_quiet()
    corpus = near.corpus
    items = []
    for shard, start in zip(corpus.shards, corpus.starts[:-1].tolist(), strict=True):
        here = slice(start, start + shard.documents)
        ranks = np.where(near.alive[here], corpus.rank[here], GONE)
        write_array(near.work.scratch, f"{shard.name}.ranks.npy", ranks)
        items.append({"shard": shard.name, "start": start})
    partitions = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
    found = (
        ray.data.from_items(items, override_num_blocks=len(items))
        .map_batches(_keyed_rows, batch_size=1, batch_format="pyarrow", fn_args=(near.work.scratch,))
        .repartition(partitions, keys=["band", "key"])
        .map_batches(
            _pairs_of_partition, batch_size=None, batch_format="pyarrow", fn_args=(near.config.max_bucket,)
        )
    )
    return merge(pickle.loads(row["candidates"]) for row in found.iter_rows())


def _keyed_rows(batch: pa.Table, scratch: Storage) -> pa.Table:
    """A row for each band in which a document of these shards may meet another."""
    tables = []
    for item in batch.to_pylist():
        keys = read_array(scratch, f"{item['shard']}.bands.npy")
        ranks = read_array(scratch, f"{item['shard']}.ranks.npy")
        rows, bands = np.nonzero((keys != NO_KEY) & (ranks != GONE)[:, None])
        columns = {
            "band": bands.astype(np.int16),
            "key": keys[rows, bands],
            "rank": ranks[rows],
            "position": rows + item["start"],
        }
        tables.append(pa.table(columns))
    return pa.concat_tables(tables)


def _pairs_of_partition(rows: pa.Table, max_bucket: int) -> pa.Table:
    bands, keys, ranks, positions = (rows[name].to_numpy() for name in ("band", "key", "rank", "position"))
    found = pairs_in_buckets(bands, keys, ranks, positions, max_bucket)
    return pa.table({"candidates": [pickle.dumps(found)]})


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
