"""What a resumed run goes on from: DeepSpeed's shards, the random states, and a note that says what they are.

With the same number of workers the shards are read as they are, and the run goes on to the last bit. With
another number they are first turned into DeepSpeed's universal form, which has a file a parameter.
"""

import contextlib
import io
import json
import os
import shutil
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.checkpoint import ds_to_universal

from heliostat.errors import ArtifactError
from heliostat.training.edge_engine import STATE_TAG, ModelEngine
from heliostat.training.job import TrainingJob
from heliostat.training.pieces import NOTE_NAME

UNIVERSAL_TAG = "universal"
STATE_PREFIX = "heliostat-checkpoint-"
"""Of the folders in which states are made; behind it the process that does."""
SECONDS_LEFT_ALONE = 600
"""A folder that old with no process is nobody's: one of another container may have its process there."""


@dataclass(frozen=True)
class StateNote:
    """What a saved state belongs to. Plain JSON, read before any weight is."""

    steps_done: int
    num_workers: int
    zero_stage: int
    model: str
    """The base model's content."""
    layout: dict[str, int]
    """How many workers share a copy of the model, by kind."""


def note_of(job: TrainingJob, num_workers: int, steps_done: int) -> StateNote:
    """The note of a state that is saved now."""
    layout = job.config.layout
    parts = ("tensor_parallel", "pipeline_parallel", "expert_parallel", "sequence_parallel")
    sizes = {name: int(getattr(layout, name)) for name in parts}
    return StateNote(steps_done, num_workers, layout.zero.stage, job.model.content, sizes)


def save_state(engine: ModelEngine, note: StateNote, folder: Path) -> None:
    """Write this worker's shard; the first also writes the note, last."""
    engine.save(folder)
    np.save(folder / f"rng-{engine.rank}.npy", torch.get_rng_state().numpy())
    np.save(folder / f"rng-device-{engine.rank}.npy", get_accelerator().get_rng_state().cpu().numpy())
    if engine.rank == 0:
        (folder / NOTE_NAME).write_text(json.dumps(asdict(note)))


def read_note(folder: Path, expected: StateNote) -> StateNote:
    """The note of a saved state, checked against the job that wants to go on from it.

    Raises:
        ArtifactError: it is of another model, or of a layout that cannot be changed on the way.
    """
    try:
        note = StateNote(**json.loads((folder / NOTE_NAME).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(
            f"{folder}: not a training state of this version ({error}); use --force"
        ) from None
    if note.model != expected.model:
        raise ArtifactError(
            f"{folder}: a checkpoint of another model ({note.model[:12]}, not {expected.model[:12]}); "
            "give the run another name, or start afresh with --force"
        )
    if (note.layout, note.zero_stage) != (expected.layout, expected.zero_stage):
        raise ArtifactError(
            f"{folder}: saved under another layout ({note.layout}, ZeRO {note.zero_stage}); only the number "
            "of replicas can change between two attempts; use the former layout, or --force"
        )
    return note


def load_state(engine: ModelEngine, note: StateNote, folder: Path) -> None:
    """Take up a saved state."""
    if must_convert(note, engine.num_workers):
        with _universal(engine, folder) as converted:
            engine.load(converted, UNIVERSAL_TAG)
    else:
        engine.load(folder, STATE_TAG)
    saved = folder / f"rng-{engine.rank}.npy"
    if note.num_workers == engine.num_workers and saved.exists():
        device = folder / f"rng-device-{engine.rank}.npy"  # where dropout draws on a GPU
        if device.exists():  # older states have none
            get_accelerator().set_rng_state(torch.from_numpy(np.load(device, allow_pickle=False)))
        torch.set_rng_state(torch.from_numpy(np.load(saved, allow_pickle=False)))
    else:  # another number of workers draws other numbers anyway
        torch.manual_seed(engine.config.seed * 1_000_003 + note.steps_done * 1009 + engine.rank)


def forget_states_left_behind() -> None:
    """Remove from this host what workers that are no more were writing or bringing away."""
    for folder in Path(tempfile.gettempdir()).glob(f"{STATE_PREFIX}*"):
        process = folder.name.removeprefix(STATE_PREFIX).partition("-")[0]
        with contextlib.suppress(FileNotFoundError):  # another worker was first
            aged = time.time() - folder.stat().st_mtime > SECONDS_LEFT_ALONE
            if aged and process.isdigit() and not psutil.pid_exists(int(process)):
                shutil.rmtree(folder, ignore_errors=True)


def must_convert(note: StateNote, num_workers: int) -> bool:
    """Whether a state is split over another number of workers than there are now."""
    return note.num_workers != num_workers and note.zero_stage > 0


@contextmanager
def _universal(engine: ModelEngine, folder: Path) -> Iterator[Path]:
    """The state in universal form, made once on each host."""
    first = int(os.environ.get("LOCAL_RANK", "0")) == 0
    target = Path(tempfile.gettempdir()) / f"heliostat-universal-{os.getppid()}-{folder.name}"
    try:
        if first:
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            with contextlib.redirect_stdout(io.StringIO()):  # it narrates
                ds_to_universal.main(
                    Namespace(
                        input_folder=str(folder / STATE_TAG),
                        output_folder=str(target / UNIVERSAL_TAG),
                        num_extract_workers=1,
                        num_merge_workers=1,
                        keep_temp_folder=False,
                        strict=True,
                        inject_missing_state=True,
                    )
                )
        torch.distributed.barrier()
        yield target
    finally:
        torch.distributed.barrier()
        if first:
            shutil.rmtree(target, ignore_errors=True)
