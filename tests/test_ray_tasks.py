"""Tasks that stream: one that is cancelled leaves a process in which the next one can work."""

import importlib
import os
import sys
import time
from pathlib import Path

import pytest

from heliostat.config import Resources
from heliostat.errors import ModelError
from heliostat.ray_tasks import stream, streaming_task

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.lengthy]
LITTLE = Resources(num_cpus=0.1)
SLOW_PACKAGE = """
import pathlib, time, slow_package.part
deadline = time.monotonic() + 60
while not pathlib.Path(__file__).with_name("go_on").exists() and time.monotonic() < deadline:
    time.sleep(0.05)
READY = True
"""


def test_a_cancelled_task_finishes_its_import_first(ray_cluster, tmp_path):
    package = tmp_path / "slow_package"
    package.mkdir()
    (package / "__init__.py").write_text(SLOW_PACKAGE)
    (package / "part.py").write_text("")

    # within the test, so that workers, which do not see this file, are sent the functions themselves
    def import_slowly(folder):
        yield os.getpid()
        sys.path.insert(0, folder)
        Path(folder, "began").touch()
        yield importlib.import_module("slow_package").READY
        time.sleep(60)

    def fail(folder):
        while not Path(folder, "began").exists():
            time.sleep(0.05)
        time.sleep(1)  # what Ray itself does around a yield is over, and the import under way
        raise ModelError("this one fails while the other one imports")
        yield

    def has_the_package():
        yield os.getpid(), hasattr(sys.modules.get("slow_package"), "READY")
        time.sleep(1)  # so that the next one is given another process

    importing = streaming_task(import_slowly, LITTLE).remote(str(tmp_path))
    failing = streaming_task(fail, LITTLE).remote(str(tmp_path))
    seen = []
    with pytest.raises(ModelError, match="while the other one imports"):
        seen.extend(item for _, item in stream({"importing": importing, "failing": failing}))
    assert len(seen) == 1, "the import was under way"
    time.sleep(1)  # the interrupt has come
    (package / "go_on").touch()
    reused, found = streaming_task(has_the_package, LITTLE), {}
    deadline = time.monotonic() + 40  # what was cancelled sleeps for longer, if nothing wakes it
    while seen[0] not in found and time.monotonic() < deadline:
        found |= dict(item for _, item in stream({str(number): reused.remote() for number in range(12)}))
    assert found[seen[0]], "the process is there, and its module is whole"
