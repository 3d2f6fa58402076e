"""A workspace with a dataset, a sweep, reports and models, written by the stages' own code, without Ray."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.data.in_process import in_order, write_jsonl
from versions.small_records import publish_small

from heliostat.data.artifacts import fill_dataset
from heliostat.data.config import DataConfig
from heliostat.data.tasks import StepModels
from heliostat.evaluation.examples import Example
from heliostat.evaluation.report import scores_of
from heliostat.evaluation.report import write_report as write_evaluation
from heliostat.records import Artifact, Provenance, Run, Status, now
from heliostat.stage import RUN_FILE
from heliostat.storage import Storage, publish, staging
from heliostat.training.config import TrainConfig
from heliostat.tuning.config import TuneConfig
from heliostat.tuning.proposals import Proposal
from heliostat.tuning.report import write_report as write_sweep
from heliostat.tuning.run import Sweep
from heliostat.tuning.settings import Settings
from heliostat.tuning.trials import Trials
from heliostat.workspace import Workspace, key_of

MIRROR = "The mirrors of the field follow the sun and throw its light onto one tower where the salt melts"
TUNE = TuneConfig.model_validate(
    {
        "name": "rates",
        "search_space": {
            "train.learning_rate": {"kind": "log_uniform", "low": 0.001, "high": 0.1},
            "train.adapter.r": [4, 8],
            "train.warmup_ratio": [0.0, 0.2],
        },
        "searcher": {"kind": "random", "num_trials": 6},
    }
)
TRIED = (
    # learning rate, rank, warmup, loss, how it ended
    (0.003, 4, 0.0, 2.5, "finished"),
    (0.01, 8, 0.2, 2.25, "finished"),
    (0.09, 8, 0.0, 3.5, "stopped"),
    (0.02, 4, 0.2, 2.4, "finished"),
    (0.002, 4, 0.0, 2.9, "stopped"),
)


def add_run(workspace: Workspace, run_id: str, status: Status = "finished", **more: Any) -> Run:
    """The record of a run."""
    values: dict[str, Any] = {
        "stage": run_id.partition("-")[0],
        "config": {},
        "fingerprint": "",
        "inputs": (),
        "started_at": now(),
        "provenance": Provenance.collect(),
    }
    run = Run(id=run_id, status=status, **{**values, **more})
    workspace.storage.write_bytes(f"runs/{run_id}/{RUN_FILE}", run.model_dump_json().encode())
    return run


def add_dataset(workspace: Workspace, folder: Path, name: str = "mirrors") -> Artifact:
    """Documents of which one repeats another, one nearly, one is short, and one names an address."""
    words = MIRROR.split()
    texts = [f"Number {n}. " + " ".join(words[n % 7 :] + words[: n % 7]) + f" on day {n}." for n in range(30)]
    rows: list[Any] = [{"text": text} for text in texts]
    rows += [{"text": texts[3]}, {"text": "Short."}, {"text": f"{MIRROR}, says someone@example.org to all."}]
    rows += [{"text": " ".join(f"word{n}" for n in range(80))}]
    rows += [{"text": " ".join(f"word{n}" for n in range(79)) + " other"}, "{broken"]
    config = DataConfig.model_validate(
        {
            "name": name,
            "sources": [{"kind": "jsonl", "path": str(write_jsonl(folder / "rows.jsonl", rows))}],
            "steps": [
                {"kind": "exact_dedup"},
                {"kind": "near_dedup", "min_similarity": 0.7},
                {"kind": "pii"},
                {"kind": "length", "min_words": 5},
            ],
        }
    )
    key = key_of(config.fingerprint())
    with staging(workspace.storage, workspace.path("dataset", name, key)) as publication:
        scratch = Storage.at(folder / "scratch")
        publication.facts |= fill_dataset(config, StepModels(), publication.folder, scratch, in_order)
        return publish(publication, "dataset", key, config.canonical())


def add_sweep(workspace: Workspace, status: Status = "finished", key: str = "ab" * 32) -> str:
    """A sweep of five trials, three of which ran to their end; returns the id of its run."""
    start = Settings(train=TrainConfig.model_validate({"learning_rate": 0.01, "max_steps": 8}), model="tiny")
    run_id = f"tune-{key[:12]}"
    trials = Trials(workspace.storage, f"runs/{run_id}/trials")
    for number, (rate, r, warmup, loss, ended) in enumerate(TRIED):
        point = {"train.learning_rate": rate, "train.adapter.r": r, "train.warmup_ratio": warmup}
        trials.begin(number, Proposal(point))
        for step in (2, 8) if ended == "finished" else (2,):
            figures = {
                "step": step,
                "tokens": 100.0 * step,
                "seconds": step / 2,
                "validation_loss": loss + 1 / step,
            }
            trials.add_report(number, figures, run=f"train-{number:012d}")
        if status == "running" and number == len(TRIED) - 1:
            continue
        made = {"artifact": f"adapter-{number}", "artifact_uri": "/m"} if ended == "finished" else {}
        trials.end(number, ended, **made)
    outputs = ()
    if status == "finished":
        with staging(workspace.storage, workspace.path("report", TUNE.name, key)) as publication:
            publication.facts |= write_sweep(publication.folder, TUNE, trials, start)
            outputs = (publish(publication, "report", key, {}).id,)
    add_run(workspace, run_id, status, config=Sweep(tune=TUNE, start=start).canonical(), outputs=outputs)
    return run_id


def add_report(
    workspace: Workspace, name: str, models: dict[str, tuple[Artifact, set[int]]], asked: str = "quiz of 40"
) -> Artifact:
    """An evaluation of 40 questions; of each model its artifact and which ones it has wrong."""
    examples = {
        called: {
            "quiz": [
                Example(
                    id=str(n),
                    scores={"acc": float(n not in wrong)},
                    group="even" if n % 2 == 0 else "odd",
                    prompt=f"What is {n} + {n}?",
                    target=str(2 * n),
                    output="?" if n in wrong else str(2 * n),
                )
                for n in range(40)
            ]
        }
        for called, (_, wrong) in models.items()
    }
    facts = {
        "models": {called: artifact.id for called, (artifact, _) in models.items()},
        "suites": {"quiz": asked},
        "scores": {called: {"quiz": scores_of(suites["quiz"])} for called, suites in examples.items()},
    }
    key = key_of(name, json.dumps(facts))
    parents = tuple(artifact for artifact, _ in models.values())
    with staging(workspace.storage, workspace.path("report", name, key)) as publication:
        publication.facts.update(facts)
        write_evaluation(publication.folder, name, facts, examples)
        return publish(publication, "report", key, {}, parents)


@dataclass(frozen=True)
class Studied:
    """What `add_all` made: a dataset, a sweep's run, three models and their reports, `good` and `bad`."""

    workspace: Workspace
    dataset: Artifact
    sweep: str
    base: Artifact
    good: Artifact
    bad: Artifact
    report: Artifact
    other: Artifact


def add_all(workspace: Workspace, folder: Path) -> Studied:
    """One of everything; no model has a version yet."""
    dataset = add_dataset(workspace, folder)
    base = publish_small(workspace, "base")
    good = publish_small(workspace, "good", "adapter", (base, dataset))
    bad = publish_small(workspace, "bad", "quantized", (base,))
    add_run(workspace, "train-000000000001", inputs=(base.id, dataset.id), outputs=(good.id,))
    report = add_report(workspace, "quiz", {"base": (base, set(range(8))), "tuned": (good, {1})})
    other = add_report(workspace, "again", {"int8": (bad, set(range(20)))})
    return Studied(workspace, dataset, add_sweep(workspace), base, good, bad, report, other)
