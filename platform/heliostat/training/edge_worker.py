"""What one training worker does: load, lay out, resume, step, save, and report to Ray Train."""

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from ray import train
from ray.train import CheckpointUploadMode, ValidationTaskConfig

from heliostat.errors import TrainingError
from heliostat.tokenized import TokenizedRows
from heliostat.training.adapters import count_parameters
from heliostat.training.batches import Batches, mean_document_length
from heliostat.training.causes import NOT_AGAIN
from heliostat.training.edge_engine import NotFiniteNormError, NotFiniteStepError
from heliostat.training.edge_layouts import make_engine
from heliostat.training.edge_saving import save_trained
from heliostat.training.edge_state import (
    STATE_PREFIX,
    forget_states_left_behind,
    load_state,
    must_convert,
    note_of,
    read_note,
    save_state,
)
from heliostat.training.edge_stop import StopBell, StopWish
from heliostat.training.experts import ExpertLoad
from heliostat.training.faults import find_not_finite, save_batch
from heliostat.training.fp8 import require_fp8
from heliostat.training.hardware import keep_freed_memory
from heliostat.training.job import DTYPES, TRAINED_FOLDER, TrainingJob
from heliostat.training.objectives.packed import PackedBatches
from heliostat.training.objectives.selection import prepare
from heliostat.training.placement import coordinates
from heliostat.training.schedule import num_steps, rates_at, share_of
from heliostat.training.step_figures import StepFigures
from heliostat.training.timing import StepTimer, timed_collectives
from heliostat.training.validation import HeldOut

SECONDS_BETWEEN_REPORTS = 1.0
"""A report is a barrier over all workers and a call to the controller; short steps share one."""


def train_worker(job: TrainingJob) -> None:
    """Train this rank's share of a job, inside one of Ray Train's workers."""
    torch.set_num_threads(max(1, int(job.config.cpus_per_worker)))
    torch.manual_seed(job.config.seed)
    forget_states_left_behind()
    if not job.config.use_gpu:
        keep_freed_memory()
    elif job.config.layout.precision == "fp8":
        require_fp8(torch.cuda.get_device_name(), torch.cuda.get_device_capability())
    timer = StepTimer(job.config.use_gpu)
    with timed_collectives(timer):
        Worker(job, timer).run()


class Worker:
    """One rank's model, optimizer state and place in the run."""

    def __init__(self, job: TrainingJob, timer: StepTimer) -> None:
        """Load the base model and the dataset, let DeepSpeed lay them out, and take up the last state."""
        self._config = config = job.config
        self._job = job
        self._timer = timer
        self._rank = train.get_context().get_world_rank()
        self._num_workers = train.get_context().get_world_size()
        inputs = job.objective_inputs(DTYPES[config.layout.precision])
        self._base_folder = inputs.base_folder
        prepared = prepare(inputs)
        self._objective = prepared.objective
        rows = TokenizedRows(inputs.dataset_folder, "train")
        self._steps = num_steps(config, len(rows))
        self._batches = Batches(config, rows, self._steps)
        self._parameters = count_parameters(prepared.model)
        self._figures = StepFigures(prepared.model, timer, mean_document_length(rows), config.use_gpu)
        self._stop = StopWish(StopBell(job.stop_bell)) if self._rank == 0 else None
        self._going: set[str] = set()
        self._rows: list[dict[str, float]] = []
        self._reported = time.perf_counter()
        self._lay_out_and_resume(prepared.model)
        if config.layout.sequence_parallel > 1:
            place = coordinates(self._rank, config.layout, self._num_workers)
            assert isinstance(prepared.objective, PackedBatches), "the config refuses those over whole rows"
            self._objective = prepared.objective.piece(place.sequence, config.layout.sequence_parallel)
        self._held_out = None
        if config.validation and config.validation.by == "workers":
            self._held_out = HeldOut(
                prepared.objective.for_split(config.validation.split),
                config.validation.max_sequences,
                config.micro_batch_size,
                (self._engine.replica, config.replicas(self._num_workers)),
            )
        self._experts = None
        if config.layout.tensor_parallel * config.layout.pipeline_parallel == 1:
            self._experts = ExpertLoad.attach(
                self._engine.model, self._padding, lambda: self._engine.reads_rows
            )

    def run(self) -> None:
        """Train to the end, or until told to stop; what was done is saved before this returns."""
        until = self._job.pause_after or self._steps
        for step in range(self._first_step, until):
            self._rows.append(self._step(step))
            told, due = self._agree()
            told = told or step + 1 == until < self._steps
            validated = self._is_validated(step + 1)
            if validated and self._held_out:
                self._rows[-1] |= self._validate(self._held_out)
                validated, due = False, True
            last = step + 1 == self._steps
            if last or told or validated or (step + 1) % self._config.checkpoint.every_steps == 0:
                self._report_with_checkpoint(step + 1, with_trained=last or validated, validated=validated)
            elif due and self._is_a_host_going():
                self._report_with_checkpoint(step + 1, with_trained=False, validated=False)
            elif due:
                self._report(None)
            if told:
                return

    def _is_validated(self, steps_done: int) -> bool:
        validation = self._config.validation
        return validation is not None and (steps_done == self._steps or validation.is_due(steps_done))

    def _validate(self, held_out: HeldOut) -> dict[str, float]:
        """Score what is held out; the time it takes is no step's."""

        def mean(summed: torch.Tensor) -> None:
            torch.distributed.all_reduce(summed)
            summed /= self._num_workers

        figures = held_out.metrics(
            self._engine.engine, self._engine.device, mean if self._num_workers > 1 else None
        )
        self._timer.finish()
        return figures

    def _step(self, step: int) -> dict[str, float]:
        """One optimizer step over the global batch. Its metrics are the same on every rank but for times."""
        config, started = self._config, time.perf_counter()
        positions = self._batches.positions(step)
        micro_batches = share_of(positions, config, self._engine.replica, self._num_workers)
        rates = rates_at(step, config, self._steps)
        weight = self._objective.weight(positions)
        every = config.watch.layer_norms_every_steps
        weighed = bool(every) and (step + 1) % every == 0
        self._engine.group_norms = {} if weighed else None
        try:
            sums = self._engine.step(self._objective, micro_batches, weight, rates)
        except NotFiniteStepError as fault:
            raise TrainingError(self._explain(step + 1, fault)) from fault
        tokens = self._objective.num_tokens(positions)
        norms = {f"gradient_norm/{name}": norm for name, norm in (self._engine.group_norms or {}).items()}
        weight_norm = self._engine.parameter_norm() if weighed else None
        return {
            "step": float(step + 1),
            **sums,
            "tokens": float(tokens),
            "learning_rate": rates.learning_rate,
            "gradient_norm": self._engine.gradient_norm,
            **({"step_skipped": 1.0} if self._engine.step_skipped else {}),
            **norms,
            **({} if weight_norm is None else {"parameter_norm": weight_norm}),
            **self._batches.figures(step),
            **self._balance_experts(),
            **self._figures.of_step(tokens, time.perf_counter() - started, self._num_workers),
            "num_workers": float(self._num_workers),
        }

    def _padding(self) -> torch.Tensor | None:
        return getattr(self._objective, "padding", None)

    def _balance_experts(self) -> dict[str, float]:
        """Who got how many tokens in this step, and a nudge to the routers' bias, the same on all workers."""
        if self._experts is None:
            return {}
        several = self._num_workers > 1
        figures = self._experts.metrics(torch.distributed.all_reduce if several else None)
        self._experts.balance(self._config.expert_balance_rate)
        return figures

    def _explain(self, step: int, fault: NotFiniteStepError) -> str:
        """Compute this worker's micro batches again to see where the first number that is none comes from."""
        if self._config.layout.pipeline_parallel > 1:
            return f"step {step}: {fault} is not finite; run again without pipeline_parallel to see where"
        folder, model = Path(self._job.faults_folder), self._engine.engine.module
        message = ""
        for micro_batch in fault.micro_batches:  # all of them: workers that share weights wait for each other
            documents = [self._objective.document_ids([position]) for position in micro_batch]

            def compute(chosen: list[int] = micro_batch) -> torch.Tensor:
                return self._objective.loss(model, chosen or [0], self._engine.device).summed

            found, arrays = find_not_finite(model, compute, documents)
            if found is not None and micro_batch and not message:
                message = found.message(step, str(save_batch(folder, step, self._rank, found, arrays)))
        if isinstance(fault, NotFiniteNormError) and self._num_workers > 1:
            torch.distributed.barrier()  # who finds nothing must not be the first to say so
        if message:
            return message
        return (
            f"step {step}: {fault} is not finite, {NOT_AGAIN} on worker {self._rank}, over "
            f"{len(fault.micro_batches)} micro batch(es); lower learning_rate, or use layout.precision: fp32"
        )

    def _agree(self) -> tuple[bool, bool]:
        """(whether to stop, whether to report), the same on all workers: a report waits for all of them."""
        due = self._rank == 0 and time.perf_counter() - self._reported > SECONDS_BETWEEN_REPORTS
        told = self._stop is not None and self._stop.told()
        wishes = torch.tensor([float(told), float(due)], device=self._engine.device)
        if self._num_workers > 1:
            torch.distributed.all_reduce(wishes)
        return bool(wishes[0] > 0), bool(wishes[1] > 0)

    def _is_a_host_going(self) -> bool:
        """Whether a host of this run was said to go since this was last asked: preempted, or drained for
        other reasons. The same on all workers, who wait for each other here."""
        if os.environ.get("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER") == "0":  # nobody would know
            return False
        notice = train.get_preemption_info()
        going = set(notice.preempted_node_ids) - self._going if notice else set()
        self._going |= going
        return bool(going)

    def _report(self, folder: Path | None, validation: ValidationTaskConfig | bool = False) -> None:
        """Hand over the steps since the last report, and a checkpoint, which is brought away while the next
        steps are made."""
        metrics: dict[str, Any] = {"steps": self._rows, "parameters": self._parameters}
        self._rows = []
        if folder is None:
            train.report(metrics)
        else:
            train.report(
                metrics,
                checkpoint=train.Checkpoint.from_directory(str(folder)),
                checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
                validation=validation,
            )
        self._reported = time.perf_counter()

    def _report_with_checkpoint(self, steps_done: int, with_trained: bool, validated: bool) -> None:
        """Save everything a resumed run needs, without the frozen weights, which the base model has."""
        started = time.perf_counter()
        folder = Path(tempfile.mkdtemp(prefix=f"{STATE_PREFIX}{os.getpid()}-"))
        try:
            save_state(self._engine, note_of(self._job, self._num_workers, steps_done), folder)
            if with_trained:
                save_trained(self._engine, self._base_folder, folder / TRAINED_FOLDER)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._rows[-1]["checkpoint_seconds"] = time.perf_counter() - started
        task = ValidationTaskConfig(fn_kwargs={"job": self._job.to_json(), "step": steps_done})
        self._report(folder, task if validated else False)

    def _lay_out_and_resume(self, model: Any) -> None:
        """Find what the last checkpoint was saved with, lay the model out for it, and load it."""
        checkpoint = train.get_checkpoint()
        if checkpoint is None and self._job.starts_from:
            checkpoint = train.Checkpoint(self._job.starts_from)
        if checkpoint is None:
            self._engine = make_engine(self._config, model, self._num_workers, self._timer)
            self._first_step = 0
            return
        with checkpoint.as_directory() as name:
            note = read_note(Path(name), note_of(self._job, self._num_workers, 0))
            universal = must_convert(note, self._num_workers)
            self._engine = make_engine(self._config, model, self._num_workers, self._timer, universal)
            load_state(self._engine, note, Path(name))
        self._first_step = note.steps_done
