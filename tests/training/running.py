"""A training run while it goes on: the steps so far, its workers, and what is to happen at a step."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from heliostat.tracking import read_metrics
from heliostat.workspace import Workspace


def run_folder(where: Workspace | Path) -> Path | None:
    """Of the only run in a workspace, or in its folder; None before it has begun."""
    root = where if isinstance(where, Path) else Path(where.storage.uri(""))
    folders = list((root / "runs").glob("train-*"))
    assert len(folders) <= 1, "going on is the same run"
    return folders[0] if folders else None


def history(where: Workspace | Path) -> list[dict[str, float]]:
    """What that run has written of its steps."""
    folder = run_folder(where)
    return read_metrics(folder) if folder else []


def training_workers(driver: int | None = None) -> list[psutil.Process]:
    """Those of the process with that id, of this one by default."""
    children = psutil.Process(driver).children(recursive=True)
    return [each for each in children if any("RayTrainWorker" in word for word in each.cmdline())]


def at_step(where: Workspace | Path, steps: int, act: Callable[[], object]) -> threading.Thread:
    """Do something, once, when so many steps are written; join the thread afterwards."""

    def wait() -> None:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            if len(history(where)) >= steps:
                act()
                return
            time.sleep(0.02)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread
