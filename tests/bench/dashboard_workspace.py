"""A workspace as it is after a year of work: files as the stages write them, and jobs on record."""

import json
import random
import shutil
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from small_studies import Studied, add_all, add_report, add_sweep
from versions.small_records import endpoint, publish_small

from heliostat.control.job_records import JobRecord, add_job
from heliostat.control.sites import Site
from heliostat.endpoints import write_record
from heliostat.job_folder import note_run
from heliostat.records import Artifact, Provenance, Run
from heliostat.stage import RUN_FILE
from heliostat.tracking import METRICS_FILE
from heliostat.training.config import TrainConfig
from heliostat.versions.registering import register_artifact
from heliostat.workspace import key_of

RECIPE = "name: nightly\ntrain:\n  max_steps: 1000\n"
UNDER_WAY = 5
"""So many of the runs go on, and their jobs."""
MODELS, REPORTS, SWEEPS, VERSIONS, ENDPOINTS = 200, 40, 12, 12, 3
ENDED = ("finished",) * 17 + ("failed", "failed", "stopped")
STATES = {"running": "RUNNING", "finished": "SUCCEEDED", "failed": "FAILED", "stopped": "STOPPED"}


@dataclass(frozen=True)
class Planted:
    """What the pages are asked for by name."""

    runs: tuple[str, ...]
    job: str
    big: str
    live: str
    dataset: str
    sweep: str
    version: str
    points: int
    """Lines of metrics in all; each holds ten figures."""


def plant(site: Site, runs: int, steps: int, big_steps: int) -> Planted:
    """Write `runs` training runs of `steps` steps, every second one with a job, one of `big_steps`, and the
    datasets, sweeps, models, reports and endpoints around them."""
    rng = np.random.default_rng(7)
    provenance = Provenance.collect()
    begin = datetime.now(UTC) - timedelta(days=300)
    lines = metric_lines(rng, steps, begin)
    ids = []
    for number in range(runs):
        status = "running" if number >= runs - UNDER_WAY else ENDED[number % len(ENDED)]
        started = begin + timedelta(minutes=number * 400)
        job = job_of(number, status, started) if number % 2 or status == "running" else None
        made = provenance.model_copy(update={"ray_job_id": job.id if job else None})
        run = training_run(number, status, started, made, steps)
        put_run(site, run, lines)
        if job is not None:
            add_job(site.store, job, "handed in")
            note_run(site.workspace.storage, job.id, run.id)
        ids.append(run.id)
    big = training_run(runs, "finished", begin, provenance, big_steps)
    put_run(site, big, metric_lines(rng, big_steps, begin))
    studied, version = studies(site)
    return Planted(
        runs=tuple(ids),
        job=f"heliostat-nightly-{runs - 1:05d}",
        big=big.id,
        live=ids[-1],
        dataset=studied.dataset.id,
        sweep=studied.sweep,
        version=version,
        points=runs * steps + big_steps,
    )


def training_run(number: int, status: Any, started: datetime, provenance: Provenance, steps: int) -> Run:
    """The record of a run: its config is a whole one, which is most of the record."""
    rate = 10 ** random.Random(number).uniform(-5, -3)
    config = TrainConfig.model_validate({"learning_rate": rate, "max_steps": steps, "seed": number})
    ended = status != "running"
    return Run(
        id=f"train-{key_of(str(number))[:12]}",
        stage="train",
        status=status,
        config=config.canonical(),
        fingerprint=config.fingerprint(),
        inputs=("model-base", "dataset-mirrors"),
        outputs=(f"adapter-{number}",) if status == "finished" else (),
        metrics={"loss": 2.0, "validation_loss": 2.1},
        started_at=started,
        finished_at=started + timedelta(minutes=20) if ended else None,
        error="worker 0 ran out of memory at step 12" if status == "failed" else None,
        provenance=provenance,
    )


def job_of(number: int, status: str, started: datetime) -> JobRecord:
    """The job that a run belongs to."""
    return JobRecord(
        id=f"heliostat-nightly-{number:05d}",
        name="nightly",
        project="assistant",
        user=("ada", "grace", "joan")[number % 3],
        state=STATES[status],
        recipe=RECIPE,
        request={"entrypoint": "python jobs/run_pipeline.py recipe.yaml", "runtime_env": {}},
        created_at=started,
        changed_at=started,
        started_at=started,
        ended_at=started + timedelta(minutes=21) if status != "running" else None,
    )


def put_run(site: Site, run: Run, lines: bytes) -> None:
    """A run's folder."""
    folder = Path(site.workspace.storage.root) / "runs" / run.id
    folder.mkdir(parents=True)
    (folder / RUN_FILE).write_text(run.model_dump_json(indent=2))
    (folder / METRICS_FILE).write_bytes(lines)


def metric_lines(rng: np.random.Generator, steps: int, begin: datetime) -> bytes:
    """A training run's metrics file: a line a step, with what the training loop reports."""
    losses = 2 + 3 * np.exp(-np.arange(steps) / (steps / 5)) + rng.normal(0, 0.05, steps)
    norms = rng.lognormal(0, 0.3, steps)
    at = begin.timestamp()
    rows = []
    for step, (loss, norm) in enumerate(zip(losses.tolist(), norms.tolist(), strict=True), start=1):
        row = {
            "step": step, "time": at + step * 1.1234567, "loss": loss, "tokens": 16384.0,
            "learning_rate": 0.001 * (1 - step / steps), "gradient_norm": norm,
            "step_seconds": 1.1 + norm / 100,
            "tokens_per_second": 16384 / (1.1 + norm / 100), "slowest_worker_seconds": 1.12 + norm / 100,
            "num_workers": 4.0, "memory_share": 0.7,
        }  # fmt: skip
        if step % 100 == 0:
            row |= {"validation_loss": loss + 0.1, "checkpoint_seconds": 0.8}
        rows.append(json.dumps(row))
    return ("\n".join(rows) + "\n").encode()


def studies(site: Site) -> tuple[Studied, str]:
    """Datasets, sweeps, models, reports, versions and endpoints; and a version by its reference."""
    workspace = site.workspace
    folder = Path(workspace.storage.root) / "raw"
    folder.mkdir()
    studied = add_all(workspace, folder)
    shutil.rmtree(folder)
    models = [publish_small(workspace, f"tuned{n}", "adapter", (studied.base,)) for n in range(MODELS)]
    for number in range(REPORTS):
        add_report(workspace, f"quiz{number}", _asked(models, number))
    for number in range(SWEEPS):
        add_sweep(workspace, key=key_of(f"sweep {number}"))
    for number in range(VERSIONS):
        name = ("assistant", "coder", "judge")[number % 3]
        made = register_artifact(models[number].id, name, workspace, candidate=number >= VERSIONS - 3)
    for number in range(ENDPOINTS):
        write_record(workspace, endpoint(f"chat{number}", models[number], "stopped"))
    return studied, made.reference


def _asked(models: list[Artifact], number: int) -> dict[str, tuple[Artifact, set[int]]]:
    one, other = models[number], models[number + REPORTS]
    return {"before": (one, set(range(number % 20))), "after": (other, set(range(number % 9)))}
