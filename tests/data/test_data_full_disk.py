"""The data stage on a disk that fills up: one line, nothing half published, and the next run goes on."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.data.in_process import digest, prepare, texts, write_jsonl

from heliostat.data.config import DataConfig
from heliostat.data.run import prepare_data
from heliostat.data.tasks import run_task
from heliostat.errors import StorageError
from heliostat.storage import artifact_folder
from heliostat.workspace import Workspace

pytestmark = [pytest.mark.heavy, pytest.mark.ray]


def mount(folder: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of a few megabytes; a folder with a file in it stands on the rest of the space."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mount(disk, "size=8m"):
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize("free", [50_000, 300_000, 600_000])
def test_a_disk_that_fills_up_is_one_line_and_the_next_run_goes_on(
    ray_cluster, small_disk, tmp_path, empty_tracking_store, model, monkeypatch, capfd, free
):
    (tmp_path / "in").mkdir()
    for number in range(8):
        write_jsonl(tmp_path / "in" / f"{number}.jsonl", texts(500, seed=number))
    source = {"kind": "jsonl", "path": str(tmp_path / "in")}
    steps = [{"kind": kind} for kind in ("normalise", "exact_dedup", "near_dedup")]
    config = DataConfig.model_validate({"sources": [source], "steps": steps})
    monkeypatch.setattr("heliostat.data.sources.BYTES_PER_ITEM", 100_000)
    made: list[str] = []

    def run_all(tasks, title):
        for task in tasks:
            done = task.scratch.exists(f"{task.name}.json")
            yield run_task(task)
            made.extend([] if done else [task.name])

    monkeypatch.setattr("heliostat.data.run._runner", lambda config, run: run_all)
    shutil.copy(empty_tracking_store, small_disk)
    workspace = Workspace.resolve(str(small_disk))
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - free))

    with pytest.raises(StorageError, match="the disk is full; free some space") as caught:
        prepare_data(config, model, workspace)
    assert "\n" not in str(caught.value)
    assert not list(small_disk.rglob("artifact.json"))
    assert "Traceback" not in capfd.readouterr().err
    before = list(made)

    ballast.unlink()
    published = prepare_data(config, model, workspace)
    assert len(made) == len(set(made)), "what was done is not done again"
    assert made[: len(before)] == before
    roomy = prepare(config, model, tmp_path / "roomy")[1]
    assert digest(artifact_folder(published)) == digest(artifact_folder(roomy))
