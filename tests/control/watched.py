"""A workspace that the collector's watch looks at turn by turn, and what it found there."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from heliostat.control.alert_watch import READING, AlertWatch, read_watch
from heliostat.control.alerts import read_alerts
from heliostat.control.readings import Ok
from heliostat.control.run_index import sync_runs
from heliostat.control.sites import Site
from heliostat.records import Provenance, Run


def now() -> datetime:
    return datetime.now(UTC)


def put_run(site: Site, losses, run_id: str = "train-1", **changes) -> Path:
    """A training run, a step a second up to now, in the index too."""
    started = now() - timedelta(seconds=len(losses) + 5)
    values = {
        "id": run_id, "stage": "train", "status": "running", "config": {"name": "tuned", "max_steps": 1000},
        "fingerprint": "f", "inputs": (), "started_at": started, "provenance": Provenance.collect(),
    }  # fmt: skip
    folder = Path(site.workspace.storage.root) / "runs" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(Run(**values | changes).model_dump_json())
    rows = [
        {"step": step, "time": started.timestamp() + step, "loss": loss}
        for step, loss in enumerate(losses, start=1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sync_runs(site)
    return folder


def turn(site: Site, watch: AlertWatch | None = None) -> None:
    """One turn of the collector's task."""
    heard = (watch or AlertWatch()).look(site)
    site.store.put_reading(READING, heard, now())


def rules_of(site: Site, open_only: bool = True) -> list[str]:
    reading = read_alerts(site.store, open_only)
    assert isinstance(reading, Ok), reading
    return [alert.rule for alert in reading.value if alert.rule != "DiskAlmostFull"]  # this machine's own


def notes_of(site: Site) -> str:
    reading = read_watch(site.store)
    assert isinstance(reading, Ok), reading
    return " | ".join(reading.value.notes)
