"""Pages run without a browser: AppTest over the dashboard's own script, in a workspace in a given state."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from streamlit.testing.v1 import AppTest

from heliostat.control.alert_watch import READING as ALERTS
from heliostat.control.alert_watch import WatchState
from heliostat.control.alerts import Finding, settle, subject_of
from heliostat.control.collector import DEMAND, HOLDERS, NODES, SERVE
from heliostat.control.job_records import JobRecord, add_job
from heliostat.control.ray_state import Demand, Node, ServeState
from heliostat.control.run_index import sync_runs
from heliostat.control.sites import Site
from heliostat.job_folder import StageNotes, log_path, note_run
from heliostat.records import Provenance, Run

ROOT = Path(__file__).resolve().parents[2]
VIEWS = sorted(path.stem for path in (ROOT / "dashboard" / "views").glob("*.py"))
STATES = ("empty", "running", "ray_down", "unauthorised", "old_fields")
JOB = "heliostat-hostile-20261130-101010-abcd"
RUN = "train-0123456789ab"
HOSTILE = "<script>alert(1)</script> [x](javascript:alert(1)) :red[red] $x^2$ **bold** \u202e"
"""A name that somebody may give."""
NODE = Node(
    id="n" * 56, name="head", ip="10.0.0.1", state="ALIVE", alive=True, is_head=True, group="", labels={},
    resources={"CPU": 2.0}, cpus_total=2.0, cpus_used=1.0, gpus_total=0.0, gpus_used=0.0, cpu_percent=None,
    memory_used_bytes=None, memory_total_bytes=None, disk_used_bytes=None, disk_total_bytes=None,
    object_store_used_bytes=None, object_store_total_bytes=None, gpus=(), state_message="", started_at=None,
    ended_at=None,
)  # fmt: skip

IDLE = Demand(at=None, autoscaler=False, waiting=(), node_types=(), used={}, failures=(), events=(), error="")


def bring_into(site: Site, state: str) -> None:
    """Write what the collector and a job would have written."""
    now = datetime.now(UTC)
    if state == "empty":
        return
    put_job(site, now)
    put_run(site, now)
    sync_runs(site)
    put_alerts(site, now)
    if state == "old_fields":
        for name in ("nodes", "demand", "holders", "serve", "jobs"):
            site.store.put_reading(name, {"of": "another version"}, now)
        return
    put_readings(site, now)
    reasons = {
        "ray_down": "no Ray dashboard answers at http://head:8265 (Connection refused)",
        "unauthorised": "the cluster at http://head:8265 asks for a token; put it into RAY_AUTH_TOKEN",
    }
    if state in reasons:
        for name in ("jobs", "nodes", "demand", "holders", "serve"):
            site.store.put_unavailable(name, reasons[state], now)


def put_readings(site: Site, at: datetime) -> None:
    """A cluster of one node on which nothing waits."""
    values = {
        "nodes": NODES.dump_python((NODE,), mode="json"),
        "demand": DEMAND.dump_python(IDLE, mode="json"),
        "holders": HOLDERS.dump_python((), mode="json"),
        "serve": SERVE.dump_python(ServeState(running=False, applications=()), mode="json"),
        "jobs": "2.60.0",
    }
    for name, value in values.items():
        site.store.put_reading(name, value, at)


def put_alerts(site: Site, now: datetime) -> None:
    """Alerts about the run, and by a rule that another version knows, with hostile words."""
    about = (("NanLoss", "run", RUN), (HOSTILE, "endpoint", HOSTILE), ("HeadLost", "cluster", ""))
    found = [
        Finding(rule=rule, subject=subject_of(kind, name), text=HOSTILE, mend=HOSTILE, since=now)
        for rule, kind, name in about
    ]
    settle(site.store, found, now)
    state = WatchState(notes=(f"could not look: {HOSTILE}",))
    site.store.put_reading(ALERTS, state.model_dump(mode="json"), now)


def put_job(site: Site, now: datetime) -> None:
    """A job at work, whose name and output are hostile."""
    job = JobRecord(
        id=JOB, name=HOSTILE, project=HOSTILE, user="ada", state="RUNNING", reason=HOSTILE,
        recipe="name: hostile\ntrain: {max_steps: 30}\n", overrides=("train.max_steps=20",),
        request={"entrypoint": "python jobs/run_pipeline.py", "runtime_env": {"working_dir": "gcs://x.zip"}},
        created_at=now - timedelta(minutes=2), changed_at=now,
    )  # fmt: skip
    add_job(site.store, job, HOSTILE)
    storage = site.workspace.storage
    storage.write_bytes(log_path(JOB), f"{HOSTILE}\nstep 1\n".encode())
    note_run(storage, JOB, RUN)
    notes = StageNotes(storage, JOB, 3)
    notes.begin("data")
    notes.end(state="made", says=HOSTILE, artifact="dataset-x", artifact_kind="dataset")
    notes.begin("train")


def put_run(site: Site, now: datetime, run_id: str = RUN, steps: int = 10, job: str | None = JOB) -> None:
    """A training run with metrics."""
    provenance = Provenance.collect().model_copy(update={"ray_job_id": job})
    run = Run(
        id=run_id, stage="train", status="running" if job else "finished", fingerprint="f" * 64, inputs=(),
        config={"name": HOSTILE, "max_steps": 30, "learning_rate": 0.001}, started_at=now,
        provenance=provenance,
    )  # fmt: skip
    folder = Path(site.workspace.storage.root) / "runs" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(run.model_dump_json())
    start = now.timestamp()
    rows = []
    for step in range(1, steps + 1):
        rows.append({"step": step, "time": start + step, "loss": 3.0 / step, "tokens": 64.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def open_page(view: str, query: dict[str, str] | None = None, language: str = "en") -> AppTest:
    """The page after its script has run once."""
    test = AppTest.from_file(str(ROOT / "dashboard" / "app.py"), default_timeout=60)
    test.query_params["lang"] = language
    test.run()
    for name, value in (query or {}).items():
        test.query_params[name] = value
    if view != "home":
        test.switch_page(f"views/{view}.py")
        test.run()
    return test


def texts(test: AppTest) -> list[str]:
    """All that markdown is made of on the page."""
    kinds = ("markdown", "caption", "title", "header", "subheader", "error", "warning", "info", "success")
    return [element.value for kind in kinds for element in getattr(test, kind)]


def commands(test: AppTest) -> list[str]:
    """The commands that the page shows; those in boxes that are shut are plain text."""
    return [each.value for each in (*test.text, *test.code) if each.value.startswith("heliostat ")]


def setting(folder: Path) -> dict[str, str]:
    """The environment that the server would have been started with."""
    return {
        "HELIOSTAT_WORKSPACE": str(folder),
        "HELIOSTAT_ADDRESS": "http://127.0.0.1:9",
        "HELIOSTAT_STRICT_WORDS": "1",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
