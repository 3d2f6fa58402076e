"""Tasks that stream: one that is cancelled leaves no module half imported for the next one in its process."""

import importlib
import sys
import time
from pathlib import Path

import pytest

from heliostat.config import Resources
from heliostat.errors import ModelError
from heliostat.ray_tasks import stream, streaming_task

pytestmark = pytest.mark.ray
LITTLE = Resources(num_cpus=0.1)
SLOW_PACKAGE = """
import pathlib, time, slow_package.part
here = pathlib.Path(__file__)
here.with_name("importing").touch()
deadline = time.monotonic() + 60
while not here.with_name("go_on").exists() and time.monotonic() < deadline:
    time.sleep(0.05)
here.with_name("whole").touch()
"""


def test_a_cancelled_task_finishes_its_import_first(ray_cluster, tmp_path):
    package = tmp_path / "slow_package"
    package.mkdir()
    (package / "__init__.py").write_text(SLOW_PACKAGE)
    (package / "part.py").write_text("")
    heard, ended, slept = (tmp_path / name for name in ("heard", "ended", "slept"))

    # within the test, so that workers, which do not see this file, are sent the functions themselves
    def import_slowly():
        yield "started"
        sys.path.insert(0, str(tmp_path))
        try:
            importlib.import_module("slow_package")
            for _ in range(1200):  # a long sleep would not be interrupted: workers are sent no signals
                time.sleep(0.1)
            slept.touch()
        finally:
            ended.touch()

    def fail():
        while not (heard.exists() and (package / "importing").exists()):
            time.sleep(0.05)
        raise ModelError("this one fails while the other one imports")
        yield

    importing, failing = (streaming_task(task, LITTLE).remote() for task in (import_slowly, fail))
    seen = []

    def listen():
        for _, item in stream({"importing": importing, "failing": failing}):
            seen.append(item)
            heard.touch()

    with pytest.raises(ModelError, match="while the other one imports"):
        listen()
    assert seen == ["started"]
    time.sleep(1)  # the interrupt has come
    assert not ended.exists(), "the import is not broken off"
    (package / "go_on").touch()
    wait_for(package / "whole")
    wait_for(ended)
    assert not slept.exists(), "the task itself is"


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.05)
