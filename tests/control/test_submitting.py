"""Recipes as jobs on a real cluster that asks for a token: `heliostat submit`, and Ray's `ray job submit`."""

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from heliostat.cli.app import execute
from heliostat.control.inventory import list_runs
from heliostat.control.ray_jobs import follow_job, list_jobs, stop_job, submit_job
from heliostat.control.submissions import Submission
from heliostat.workspace import Workspace

pytestmark = pytest.mark.ray
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture(autouse=True)
def with_token(cluster, monkeypatch):
    """The laptop's side: the token's file is here."""
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(cluster.token_file))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Where the module's jobs keep their outputs, so that the second finds what the first has made."""
    return tmp_path_factory.mktemp("jobs")


@pytest.fixture(scope="module")
def recipe(place, tiny_model_folder) -> Path:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {number} and {number}?"},
                {"role": "assistant", "content": f"It is {2 * number}."},
            ]
        }
        for number in range(40)
    ]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = place / "sums.yaml"
    path.write_text(
        f"name: sums\nmodel: {tiny_model_folder}\n"
        f"data:\n  name: sums\n  sources:\n    - kind: jsonl\n      path: {place / 'rows.jsonl'}\n"
        "  tokenize: {max_sequence_length: 256}\n"
    )
    return path


def submit(*arguments: object) -> int:
    return execute(["submit", *map(str, arguments)])


@pytest.mark.slow
def test_heliostat_submit_runs_a_recipe_and_follows_it(cluster, recipe, place, capsys):
    workspace = place / "workspace"
    assert submit(recipe, "data.split.seed=1", "--address", cluster.address, "--workspace", workspace) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("job heliostat-sums-")
    assert printed[-1].startswith("job heliostat-sums-")
    assert "SUCCEEDED" in printed[-1]
    runs = list_runs(Workspace.resolve(str(workspace)))
    assert {run.status for run in runs} == {"finished"}
    assert printed[0].split()[1] in {run.provenance.ray_job_id for run in runs}
    job = list_jobs(cluster.address)[0]
    assert (job.status, job.recipe, job.user) == ("SUCCEEDED", "sums", runs[0].provenance.user)


@pytest.mark.slow
def test_rays_own_submit_runs_the_same_job_and_finds_what_is_finished(cluster, recipe, place):
    workspace = place / "workspace"
    before = {run.id: run.attempts for run in list_runs(Workspace.resolve(str(workspace)))}
    command = [BIN / "ray", "job", "submit", "--address", cluster.address, "--working-dir", "."]
    environment = {"env_vars": {"HELIOSTAT_WORKSPACE": str(workspace)}, "py_modules": ["platform/heliostat"]}
    command += ["--runtime-env-json", json.dumps(environment), "--"]
    command += ["python", "jobs/prepare_data.py", recipe, "data.split.seed=1"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"RAY_AUTH_MODE": "token"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert {run.id: run.attempts for run in list_runs(Workspace.resolve(str(workspace)))} == before


def test_a_job_that_fails_says_why_and_exits_with_1(cluster, recipe, place, capsys):
    missing = f"data.sources.0.path={place / 'gone.jsonl'}"
    where = ["--address", cluster.address, "--workspace", place / "workspace"]
    assert submit(recipe, missing, *where, "--no-preflight") == 1
    printed = capsys.readouterr().out
    assert "heliostat: error: " in printed
    assert "gone.jsonl" in printed
    assert "Traceback" not in printed
    assert "FAILED: Job entrypoint command failed with exit code 2" in printed.splitlines()[-1]


def test_a_job_can_be_left_alone_and_stopped(cluster, recipe, place, capsys):
    workspace = place / "other"
    assert submit(recipe, "--address", cluster.address, "--workspace", workspace, "--no-wait") == 0
    job_id = capsys.readouterr().out.split()[1]
    assert stop_job(cluster.address, job_id)
    assert follow_job(cluster.address, job_id, lambda text: None, poll_seconds=0.2).status == "STOPPED"
    assert not stop_job(cluster.address, job_id)


@contextmanager
def unsteady_line(address: str, answers: int):
    """A proxy to the head through which every `answers`-th request fails, in turn refused and cut off."""
    count = 0

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self):
            nonlocal count
            count += 1
            if count % answers == 0:
                if count % (2 * answers):
                    self.send_error(502)
                return  # without an answer: the client sees the line cut
            headers = {"Authorization": self.headers["Authorization"]}
            response = httpx.get(f"{address}{self.path}", headers=headers, timeout=60)
            self.send_response(response.status_code)
            self.end_headers()
            self.wfile.write(response.content)

        def log_message(self, *_):
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}"
    finally:
        proxy.shutdown()
        proxy.server_close()


@pytest.mark.slow
def test_following_survives_an_unsteady_line_and_shows_each_line_once(cluster, recipe, place):
    missing = f"data.sources.0.path={place / 'gone.jsonl'}"
    submission = Submission(recipe, (missing,), str(place / "workspace"))
    job_id = submit_job(cluster.address, submission)
    pieces: list[str] = []
    with unsteady_line(cluster.address, answers=3) as address:
        job = follow_job(address, job_id, pieces.append, poll_seconds=0.2)
    log = "".join(pieces)
    assert job.status == "FAILED"
    assert log.count("Running entrypoint for job") == 1
    assert log.count("heliostat: error:") == 1


@pytest.mark.parametrize("token", ["wrong", None])
def test_without_the_right_token_there_is_one_line(cluster, recipe, tmp_path, monkeypatch, capsys, token):
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    monkeypatch.setenv("HOME", str(tmp_path))
    if token:
        monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    assert submit(recipe, "--address", cluster.address) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert "RAY_AUTH_TOKEN" in printed.err


def test_the_head_made_a_token_that_only_its_owner_can_read(cluster):
    assert cluster.token_file.stat().st_mode & 0o777 == 0o600
    assert len(cluster.token_file.read_text()) == 64
    log = cluster.token_file.parents[1] / "log"
    assert cluster.token_file.read_text() not in log.read_text()
