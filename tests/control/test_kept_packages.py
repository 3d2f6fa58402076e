"""What a job took with it is kept for its retry, by the job itself where nobody else could."""

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from heliostat.control.kept_packages import are_kept, read_packages
from heliostat.control.submissions import Submission, prepare
from heliostat.errors import ConfigError, StorageError
from heliostat.storage import Storage

KEEP = """
import sys
from heliostat.control.kept_packages import keep_own_packages
from heliostat.storage import Storage
keep_own_packages(Storage.at(sys.argv[1]))
"""


@pytest.fixture
def prepared(tmp_path):
    recipe = tmp_path / "clean.yaml"
    recipe.write_text(
        f"name: clean\ndata: {{name: clean, sources: [{{kind: jsonl, path: {tmp_path / 'rows'}}}]}}\n"
    )
    return prepare("http://10.0.0.5:8265", Submission(recipe), "ada")


def on_a_node(prepared, folder: Path, workspace: Path) -> None:
    """Run the keeping as the job's driver would: from what Ray unpacked."""
    unpacked = []
    for package in prepared.packages:
        place = folder / package.name
        zipfile.ZipFile(io.BytesIO(package.content)).extractall(place)
        unpacked.append(place)
    job = {"runtime_env": prepared.request["runtime_env"], "metadata": {"job_submission_id": prepared.id}}
    environment = {"PYTHONPATH": str(unpacked[1]), "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(job)}
    command = [sys.executable, "-c", KEEP, str(workspace)]
    subprocess.run(command, cwd=unpacked[0], env=os.environ | environment, check=True)


def test_a_job_keeps_what_it_came_with_under_the_names_that_its_request_has(prepared, tmp_path):
    storage = Storage.at(str(tmp_path / "workspace"))
    assert not are_kept(storage, prepared.request)
    on_a_node(prepared, tmp_path / "node", tmp_path / "workspace")
    assert are_kept(storage, prepared.request)
    assert read_packages(storage, prepared.request) == prepared.packages


def test_a_workspace_that_cannot_be_looked_at_does_not_end_the_job(prepared, tmp_path):
    beyond = tmp_path / ("w" * 300)  # a name that no file system takes
    with pytest.raises(StorageError):
        are_kept(Storage.at(str(beyond)), prepared.request)
    on_a_node(prepared, tmp_path / "node", beyond)


def test_what_does_not_come_to_the_same_name_is_not_kept(prepared, tmp_path):
    other = {**prepared.request, "runtime_env": {"working_dir": "gcs://_ray_pkg_0123456789abcdef.zip"}}
    job = {"runtime_env": other["runtime_env"]}
    environment = os.environ | {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(job)}
    (tmp_path / "jobs").mkdir()
    command = [sys.executable, "-c", KEEP, str(tmp_path / "workspace")]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert not (tmp_path / "workspace" / "jobs").exists()
    with pytest.raises(ConfigError, match="is gone"):
        read_packages(Storage.at(str(tmp_path / "workspace")), other)
