"""Secrets planted in every place that holds one, real work done beside them, and then looked for everywhere.

They may be in the environment of processes and in the files made to hold them (mode 600): nowhere else.
"""

import io
import json
import os
import secrets
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from pages import VIEWS
from served import ROOT, Served, environment, run_page, served, user

from heliostat.control.local_cluster import RECORD_NAME, LocalCluster
from heliostat.control.ray_api import RayApi
from heliostat.errors import ClusterError

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.heavy]
VARIABLES = (
    "RAY_AUTH_TOKEN", "HELIOSTAT_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD",
    "OPENAI_API_KEY", "ALERT_WEBHOOK_URL",
)  # fmt: skip
ADMIN = "ada"
RAY_LISTS = ("actors", "tasks", "workers", "nodes", "jobs", "placement_groups", "objects")
RAY_PATHS = (
    "/api/jobs/",
    "/events",
    "/api/cluster_status",
    "/api/serve/applications/",
)
PARTS = ("curves", "logs", "stages", "config", "checkpoints")


@dataclass
class Watcher:
    """Looks at the command lines of all processes, again and again, and at the environment of drivers."""

    planted: dict[str, str]
    seen: set[int] = field(default_factory=set)
    found: set[str] = field(default_factory=set)
    held_by_drivers: set[str] = field(default_factory=set)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.over.wait(0.02):
            for process in psutil.process_iter(["cmdline"]):
                line = " ".join(process.info["cmdline"] or ())
                self.seen.add(process.pid)
                self.found |= {f"{name} in: {line}" for name, value in self.planted.items() if value in line}
                if "run_pipeline.py" in line:
                    self._note_environment(process)

    def _note_environment(self, process: psutil.Process) -> None:
        try:
            held = set(process.environ().values())
        except psutil.Error:
            return
        self.held_by_drivers |= {name for name, value in self.planted.items() if value in held}


@dataclass(frozen=True)
class Scene:
    """What was planted, where work was done, and all that was said meanwhile."""

    planted: dict[str, str]
    dashboard: Served
    cluster: LocalCluster
    folder: Path
    said: dict[str, str]
    jobs: tuple[str, str]
    watcher: Watcher


@pytest.fixture(scope="module")
def scene(tmp_path_factory, tiny_model_folder) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("planted")
    planted = {
        name: f"planted{secrets.token_hex(16)}" for name in (*VARIABLES, "password", "operator.key", "wrong")
    }
    held = {name: planted[name] for name in VARIABLES}
    held["ALERT_WEBHOOK_URL"] = f"https://hooks.example/{planted['ALERT_WEBHOOK_URL']}"
    held |= {"HELIOSTAT_DASHBOARD_NO_CLUSTER": "0", "XDG_STATE_HOME": str(folder / "state")}
    put_operator_key(folder / "workspace", planted["operator.key"])
    added = user(folder / "workspace", "add", ADMIN, "--role", "admin", password=planted["password"])
    assert added.returncode == 0
    watcher = Watcher(planted)
    threading.Thread(target=watcher.run, daemon=True).start()
    try:
        with served(folder, told=held) as dashboard:
            cluster = wait_for_cluster(folder / "state" / "heliostat" / RECORD_NAME, dashboard)
            recipe = write_recipe(folder, tiny_model_folder)
            said: dict[str, str] = {"user add": added.stdout + added.stderr}
            jobs = work(folder, environment(folder) | held, cluster.address, recipe, said, planted["wrong"])
            said |= pages(dashboard, planted["password"], jobs)
            said |= ray(cluster, planted["RAY_AUTH_TOKEN"])
            yield Scene(planted, dashboard, cluster, folder, said, jobs, watcher)
    finally:
        watcher.over.set()


def put_operator_key(workspace: Path, key: str) -> None:
    file = workspace / "gateway" / "operator.key"
    file.parent.mkdir(parents=True)
    file.touch(mode=0o600)
    file.write_text(key)


def wait_for_cluster(record: Path, dashboard: Served) -> LocalCluster:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        if record.exists():
            cluster = LocalCluster.model_validate_json(record.read_text())
            if cluster.ready:
                return cluster
        time.sleep(0.5)
    raise AssertionError(dashboard.log.read_text())


def write_recipe(folder: Path, model: Path) -> Path:
    rows = [{"text": f"The heliostat numbered {number} turns its mirror to the sun."} for number in range(30)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "mirrors.yaml"
    path.write_text(
        f"name: mirrors\nmodel: {model}\ndata:\n  name: mirrors\n"
        f"  sources:\n    - {{kind: jsonl, path: {folder / 'rows.jsonl'}}}\n"
        "  tokenize: {max_sequence_length: 128}\n"
    )
    return path


def work(
    folder: Path, held: dict[str, str], address: str, recipe: Path, said: dict[str, str], wrong: str
) -> tuple[str, str]:
    """A job that succeeds and one that fails, and all that the commands say of them."""

    def command(*words: object, code: int | None = 0, **others: str) -> str:
        line = [sys.executable, "-m", "heliostat.cli", *map(str, words)]
        done = subprocess.run(line, cwd=ROOT, env=held | others, capture_output=True, text=True, timeout=300)
        said[" ".join(map(str, words))] = done.stdout + done.stderr
        assert code is None or done.returncode == code, done.stdout + done.stderr
        return done.stdout

    there = ("--address", address, "--workspace", folder / "workspace")
    good = command("submit", recipe, *there).split()[1]
    gone = f"data.sources.0.path={folder / 'gone.jsonl'}"
    bad = command("submit", recipe, gone, *there, "--no-preflight", code=1).split()[1]
    for job in (good, bad):
        command("jobs", "show", job, "--workspace", folder / "workspace")
        command("jobs", "logs", job, "--workspace", folder / "workspace")
    for words in (("jobs", "list"), ("runs", "list"), ("serve", "status"), ("dashboard", "user", "list")):
        command(*words, "--workspace", folder / "workspace", code=None)
    command("doctor", *there, code=None)
    command("cluster", "status", "--address", address)
    command("cluster", "status", "--address", address, "--debug", code=None, RAY_AUTH_TOKEN=wrong)
    command("submit", recipe, *there, "--debug", code=None, RAY_AUTH_TOKEN=f"{wrong}\n{wrong}")
    assert "refuses the token from RAY_AUTH_TOKEN" in str(said)
    return good, bad


def pages(dashboard: Served, password: str, jobs: tuple[str, str]) -> dict[str, str]:
    """Every page as the browser gets it, and every part of the two runs."""
    queries = [(view, "") for view in VIEWS]
    queries += [("run", f"run={job}&run_part={part}") for job in jobs for part in PARTS]
    said = {}
    with dashboard.logged_in(ADMIN, password) as client:
        for view, query in queries:
            with dashboard.stream(client) as stream:
                drawn = run_page(stream, view, query)
            said[f"page {view}?{query}"] = "\n".join(
                message.SerializeToString().decode(errors="replace") for message in drawn
            )
        for path in (
            "/",
            "/runs",
            "/look.js",
            "/_stcore/host-config",
            "/_stcore/metrics",
            "/healthz",
            "/logout",
        ):
            said[f"GET {path}"] = client.get(path).text
    assert "mirrors" in said["page runs?"]
    assert "gone.jsonl" in said[f"page run?run={jobs[1]}&run_part=logs"]
    return said


def ray(cluster: LocalCluster, token: str) -> dict[str, str]:
    """What Ray itself tells of the jobs, with their metadata and environments; its refusals, too."""
    said = {}
    asked = [(path, {}) for path in RAY_PATHS] + [("/nodes", {"view": "summary"})]
    asked += [(f"/api/v0/{kind}", {"detail": 1, "limit": 1000}) for kind in RAY_LISTS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", token)
        with RayApi(cluster.address) as api:
            for path, query in asked:
                try:
                    said[f"Ray {path}"] = api.get_text(path, path, **query)
                except ClusterError as error:
                    said[f"Ray {path}"] = str(error)
    assert "mirrors" in said["Ray /api/jobs/"]
    assert "run_pipeline.py" in said["Ray /api/v0/jobs"]
    assert "JobSupervisor" in said["Ray /api/v0/actors"]
    return said


def leaks(scene: Scene, text: str) -> list[str]:
    return [name for name, value in scene.planted.items() if value in text]


def files(*folders: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file below some folders, and every file in every archive."""
    for folder in folders:
        for path in folder.rglob("*"):
            if not path.is_file() or path.is_symlink():
                continue
            try:
                content = path.read_bytes()
            except FileNotFoundError:  # Ray takes its own away
                continue
            yield path, content
            if zipfile.is_zipfile(io.BytesIO(content)):
                with zipfile.ZipFile(io.BytesIO(content)) as archive:
                    for name in archive.namelist():
                        yield path / name, archive.read(name)


def test_the_jobs_held_the_secrets_in_their_environment(scene):
    """So that what follows could have leaked them. Ray's token is handed on by its file's path only."""
    assert set(VARIABLES) - {"RAY_AUTH_TOKEN", "ALERT_WEBHOOK_URL"} <= scene.watcher.held_by_drivers
    assert "RAY_AUTH_TOKEN" not in scene.watcher.held_by_drivers


def test_no_secret_was_in_a_command_line(scene):
    assert len(scene.watcher.seen) > 20
    assert scene.watcher.found == set()


def test_no_secret_is_in_what_commands_pages_and_ray_say(scene):
    assert len(scene.said) > 40
    assert {place: leaks(scene, text) for place, text in scene.said.items() if leaks(scene, text)} == {}


def test_no_secret_is_in_what_the_server_prints(scene):
    assert leaks(scene, scene.dashboard.log.read_text()) == []


def test_no_secret_is_in_any_column_of_any_table(scene):
    databases = sorted(scene.dashboard.workspace.glob("*.db"))
    assert {"control.db", "mlflow.db"} <= {path.name for path in databases}
    cells = 0
    for path in databases:
        with closing(sqlite3.connect(path)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            for (table,) in tables:
                for row in connection.execute(f'SELECT * FROM "{table}"'):
                    cells += len(row)
                    text = "\n".join(
                        v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in row
                    )
                    assert leaks(scene, text) == [], f"{path.name}: {table}"
    assert cells > 100


def test_secrets_are_in_no_file_but_those_made_for_them(scene):
    """The workspace, the server's home, and all that Ray has written: logs, sessions, packages."""
    places = (scene.folder, Path(scene.cluster.folder))
    found = []
    number = 0
    for path, content in files(*places):
        number += 1
        names = [name for name, value in scene.planted.items() if value.encode() in content]
        if names:
            found.append((path.name, names, oct(path.stat().st_mode & 0o777)))
    assert number > 50
    assert sorted(found) == [
        ("operator.key", ["operator.key"], "0o600"),
        ("token", ["RAY_AUTH_TOKEN"], "0o600"),
    ]


def test_a_database_that_is_away_keeps_its_password_from_pages_and_prints(tmp_path):
    planted = f"planted{secrets.token_hex(16)}"
    password = f"planted{secrets.token_hex(16)}"
    assert user(tmp_path / "workspace", "add", ADMIN, "--role", "admin", password=password).returncode == 0
    away = {
        "HELIOSTAT_DATABASE": f"postgresql://heliostat:{planted}@127.0.0.1:1/heliostat",
        "MLFLOW_TRACKING_URI": f"http://heliostat:{planted}@127.0.0.1:9",
    }
    with served(tmp_path, told=away) as dashboard:
        with dashboard.logged_in(ADMIN, password) as client:
            for view in VIEWS:
                with dashboard.stream(client) as stream:
                    drawn = b"".join(message.SerializeToString() for message in run_page(stream, view))
                assert planted.encode() not in drawn, view
        assert planted not in dashboard.log.read_text()
    for words in (["jobs", "list"], ["models", "list"], ["doctor"], ["runs", "list"]):
        done = subprocess.run(
            [sys.executable, "-m", "heliostat.cli", *words, "--workspace", str(tmp_path / "workspace")],
            env=environment(tmp_path) | away, capture_output=True, text=True, timeout=120, cwd=os.sep,
        )  # fmt: skip
        assert planted not in done.stdout + done.stderr, words
