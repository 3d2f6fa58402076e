"""`heliostat run --keep` serves until it is told to stop, however it is told, and leaves nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from tests.processes import HEAR_CTRL_C, prepared

RECIPE = """
name: kept
model: {model}
serve: {{port: 0, name: kept, engine: {{kind: transformers}}}}
"""


def process_group(leader: int) -> list[int]:
    """The processes still in a group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("sent", "whole_group"),
    [
        pytest.param(signal.SIGINT, True, id="ctrl-c"),
        pytest.param(signal.SIGTERM, False, id="kill"),
        pytest.param(signal.SIGTERM, True, id="kill-the-group", marks=pytest.mark.lengthy),
    ],
)
def test_a_kept_endpoint_stops_at_once_and_leaves_nothing(tiny_model_folder, tmp_path, sent, whole_group):
    recipe, root = tmp_path / "kept.yaml", tmp_path / "workspace"
    recipe.write_text(RECIPE.format(model=tiny_model_folder))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", "heliostat.cli", "run", str(recipe), "--keep", "--workspace", str(root)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(
        prepared(HEAR_CTRL_C, command), env=environment, start_new_session=True, **pipes
    )
    try:
        assert process.stdout is not None
        said = ""
        while "Ctrl-C stops the endpoint." not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        address = re.search(r"curl .*?(http://\S+?)/v1", said)
        assert address, said
        with urllib.request.urlopen(f"{address[1]}/healthz", timeout=10) as response:
            assert response.status == 200
        if whole_group:
            os.killpg(process.pid, sent)
        else:
            process.send_signal(sent)
        rest, _ = process.communicate(timeout=20)
        deadline = time.monotonic() + 10
        while process_group(process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert process.returncode == 0, rest
        assert not re.search("Error|Traceback", rest), rest
        assert process_group(process.pid) == []
        record = json.loads((root / "deployments" / "kept.json").read_text())
        assert record["status"] == "stopped"
    finally:
        for left in process_group(process.pid):
            os.kill(left, signal.SIGKILL)
