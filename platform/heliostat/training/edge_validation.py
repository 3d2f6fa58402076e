"""The task that validates a checkpoint while the workers go on with the next steps."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray.train import Checkpoint

from heliostat.training.job import TRAINED_FOLDER, TrainingJob

SAMPLES_FOLDER = "samples"


def validate_checkpoint(checkpoint: Checkpoint, job: dict[str, Any], step: int) -> dict[str, float]:
    """Ray Train calls this in a task of its own; what it returns stands beside the checkpoint's metrics."""
    from heliostat.tracking import Tracker
    from heliostat.training.validation import held_out_metrics, load_trained, samples

    work = TrainingJob.from_json(job)
    config = work.config.validation
    assert config is not None, "only runs with a validation section report checkpoints to validate"
    inputs = work.objective_inputs("float32")
    with checkpoint.as_directory() as folder:
        prepared = load_trained(inputs, Path(folder) / TRAINED_FOLDER)
    metrics = held_out_metrics(prepared, config, work.config.micro_batch_size)
    Tracker(work.tracker_uri).log(work.tracking_run_id, metrics, step)
    target = Path(work.faults_folder).parent / SAMPLES_FOLDER
    target.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(sample), ensure_ascii=False) for sample in samples(prepared, inputs, config)]
    report = {"step": step, **metrics, "samples": [json.loads(line) for line in lines]}
    (target / f"step-{step:07d}.json").write_text(json.dumps(report, ensure_ascii=False, indent=1))
    return metrics
