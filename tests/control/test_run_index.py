"""The index of runs follows their files: filled in a few transactions, then looked after at little cost."""

import os
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from small_studies import add_run
from sqlalchemy import event

from heliostat.control.run_index import BATCH, RunFilter, find_runs, sync_runs
from heliostat.control.sites import Site
from heliostat.control.store import Store
from heliostat.storage import Storage

EARLIER = time.time() - 60


@pytest.fixture
def site(tmp_path, database) -> Site:
    (tmp_path / "runs").mkdir()
    return Site.open(str(tmp_path))


def put(site: Site, run_id: str, **more) -> None:
    """A record that was written a minute ago."""
    add_run(site.workspace, run_id, **more)
    for path in (f"runs/{run_id}/run.json", f"runs/{run_id}"):
        os.utime(site.workspace.storage.uri(path), (EARLIER, EARLIER))


def read_paths(monkeypatch) -> list[str]:
    """The files that are read from now on."""
    seen: list[str] = []
    read = Storage.read_bytes
    monkeypatch.setattr(Storage, "read_bytes", lambda self, path: (seen.append(path), read(self, path))[1])
    return seen


def test_many_runs_are_indexed_in_a_few_transactions(site):
    for number in range(BATCH + 50):
        put(site, f"train-{number:012d}")
    find_runs(site.store)
    commits: list[object] = []
    event.listen(site.store._engine, "commit", commits.append)
    assert sync_runs(site) == BATCH + 50
    assert len(commits) == 3  # what is known, and two batches
    assert len(find_runs(site.store)) == BATCH + 50


def test_a_run_that_did_not_change_is_not_read_again(site, monkeypatch):
    put(site, "train-000000000001")
    put(site, "train-000000000002", status="running")
    sync_runs(site)
    seen = read_paths(monkeypatch)
    assert sync_runs(site) == 0
    assert seen == []


@pytest.mark.parametrize("before", ["running", "finished"])
def test_a_run_that_was_written_again_is_read_again(site, before):
    put(site, "train-000000000001", status=before)
    sync_runs(site)
    add_run(site.workspace, "train-000000000001", status="failed")
    assert sync_runs(site) == 1
    assert [run.status for run in find_runs(site.store)] == ["failed"]


def test_a_run_whose_folder_is_gone_leaves_the_index(site):
    put(site, "train-000000000001")
    put(site, "train-000000000002")
    sync_runs(site)
    site.workspace.storage.delete("runs/train-000000000001")
    assert sync_runs(site) == 1
    assert [run.id for run in find_runs(site.store)] == ["train-000000000002"]


def test_a_record_of_another_version_does_not_hide_the_others(site):
    put(site, "train-000000000001")
    other = Path(site.workspace.storage.root) / "runs" / "train-000000000002"
    other.mkdir()
    (other / "run.json").write_text('{"of": "another version"}')
    assert sync_runs(site) == 1


def test_two_that_fill_the_index_at_once_both_come_through(site):
    for number in range(BATCH):
        put(site, f"train-{number:012d}", started_at=datetime.now(UTC) - timedelta(minutes=number))
    find_runs(site.store)
    faults: list[Exception] = []

    def fill() -> None:
        try:
            sync_runs(Site(site.workspace, Store(site.store.url)))
        except Exception as error:
            faults.append(error)
            raise

    workers = [threading.Thread(target=fill) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert faults == []
    assert len(find_runs(site.store)) == BATCH


def test_a_part_of_a_runs_id_is_taken_as_it_is_typed(site):
    put(site, "train-000000000001")
    put(site, "my_train-000000000002")
    sync_runs(site)
    found = {part: len(find_runs(site.store, RunFilter(text=part))) for part in ("_", "%", "train")}
    assert found == {"_": 1, "%": 0, "train": 2}
