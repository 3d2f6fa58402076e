"""The task that validates a checkpoint while the workers go on with the next steps."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray.train import Checkpoint

from heliostat.storage import Storage
from heliostat.training.causes import in_one_line
from heliostat.training.findings import note_finding
from heliostat.training.job import TRAINED_FOLDER, TrainingJob
from heliostat.training.watchers import Finding

SAMPLES_FOLDER = "samples"


def validate_checkpoint(checkpoint: Checkpoint, job: dict[str, Any], step: int) -> dict[str, float]:
    """Ray Train calls this in a task of its own; what it returns stands beside the checkpoint's metrics.

    Ray Train only writes a log line when it fails, and the training goes on: the run's findings tell it.
    """
    work = TrainingJob.from_json(job)
    run_folder = Path(work.faults_folder).parent
    try:
        with checkpoint.as_directory() as folder:
            return _validate(work, Path(folder) / TRAINED_FOLDER, run_folder, step)
    except Exception as error:
        said = in_one_line(str(error)) or type(error).__name__
        message = f"step {step} was not validated: {said}; training goes on"
        note_finding(run_folder, Finding("validation", step, message, "warn"))
        raise


def _validate(work: TrainingJob, trained: Path, run_folder: Path, step: int) -> dict[str, float]:
    from heliostat.tracking import Tracker
    from heliostat.training.validation import held_out_metrics, load_trained, samples

    config = work.config.validation
    assert config is not None, "only runs with a validation section report checkpoints to validate"
    inputs = work.objective_inputs("float32")
    prepared = load_trained(inputs, trained)
    metrics = held_out_metrics(prepared, config, work.config.micro_batch_size)
    written = [asdict(sample) for sample in samples(prepared, inputs, config)]
    report = {"step": step, **metrics, "samples": written}
    text = json.dumps(report, ensure_ascii=False, indent=1)
    Storage.at(run_folder).write_bytes(f"{SAMPLES_FOLDER}/step-{step:07d}.json", text.encode())
    Tracker(work.tracker_uri).log(work.tracking_run_id, metrics, step)  # last: it may be away
    return metrics
