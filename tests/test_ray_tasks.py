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

pytestmark = pytest.mark.ray
HALF = Resources(num_cpus=0.5)
SLOW_PACKAGE = "import slow_package.part\nimport time\ntime.sleep(2)\nREADY = True\n"
PART = "import slow_package\nREADY = getattr(slow_package, 'READY', False)\n"


def import_slowly(folder: str):
    yield os.getpid()
    sys.path.insert(0, folder)
    Path(folder, "began").touch()
    yield importlib.import_module("slow_package").READY
    time.sleep(60)


def fail(folder: str):
    while not Path(folder, "began").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    raise ModelError("this one fails while the other one imports")
    yield


def has_the_package():
    whole = "slow_package" in sys.modules and hasattr(sys.modules["slow_package"], "READY")
    yield os.getpid(), whole
    time.sleep(1)  # so that the next one is given another process


def test_a_cancelled_task_finishes_its_import_first(ray_cluster, tmp_path):
    package = tmp_path / "slow_package"
    package.mkdir()
    (package / "__init__.py").write_text(SLOW_PACKAGE)
    (package / "part.py").write_text(PART)
    importing = streaming_task(import_slowly, HALF).remote(str(tmp_path))
    failing = streaming_task(fail, HALF).remote(str(tmp_path))
    seen, began = [], time.monotonic()
    with pytest.raises(ModelError, match="while the other one imports"):
        seen.extend(item for _, item in stream({"importing": importing, "failing": failing}))
    assert len(seen) == 1, "the import was under way"
    time.sleep(4)
    assert time.monotonic() - began < 40, "what was cancelled does not go on"
    reused = streaming_task(has_the_package, HALF)
    found = dict(item for _, item in stream({str(n): reused.remote() for n in range(4)}))
    assert found[seen[0]], "the process is there, and its module is whole"
