"""What one training worker does: load, wrap in DeepSpeed, resume, step, save."""

import tempfile
import time
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
import torch
from deepspeed.accelerator import get_accelerator
from ray import train

from heliostat.models.adapters import copy_tokenizer
from heliostat.models.added_tokens import ADDED_TOKENS
from heliostat.models.loading import load_model, load_tokenizer
from heliostat.storage import artifact_folder
from heliostat.tokenized import TokenizedDataset
from heliostat.training.adapters import apply_adapter, count_parameters
from heliostat.training.job import TRAINED_FOLDER, TrainingJob
from heliostat.training.layout import deepspeed_config
from heliostat.training.objectives.sft import Sft
from heliostat.training.schedule import batch_positions, learning_rate_at, num_steps

STATE_TAG = "state"


def train_worker(job: TrainingJob) -> None:
    """Train this rank's share of a job, inside one of Ray Train's workers."""
    torch.set_num_threads(max(1, int(job.config.cpus_per_worker)))
    torch.manual_seed(job.config.seed)
    Worker(job).run()


class Worker:
    """One rank's model, optimizer state and place in the run."""

    def __init__(self, job: TrainingJob) -> None:
        """Load the base model and the dataset, and let DeepSpeed lay them out."""
        self._config = config = job.config
        self._rank = train.get_context().get_world_rank()
        self._base_folder = artifact_folder(job.model)
        self._dataset = TokenizedDataset(artifact_folder(job.dataset), "train")
        self._steps = num_steps(config, len(self._dataset))
        padding_id = load_tokenizer(self._base_folder).pad_token_id or 0
        self._objective = Sft(self._dataset, padding_id)
        dtype = "bfloat16" if config.precision == "bf16" else "float32"
        added = job.model.facts.get(ADDED_TOKENS, ())
        self._model = apply_adapter(load_model(self._base_folder, dtype), config.adapter, added)
        self._trainable, self._all = count_parameters(self._model)
        _skip_compiled_all_reduce()
        self._engine, *_ = deepspeed.initialize(
            model=self._model,
            model_parameters=[p for p in self._model.parameters() if p.requires_grad],
            config=deepspeed_config(config),
        )
        self._device = get_accelerator().current_device_name()

    def run(self) -> None:
        """Train from where the last checkpoint stands to the end, reporting every step."""
        self._engine.train()
        for step in range(self._resume(), self._steps):
            metrics = self._step(step)
            last = step + 1 == self._steps
            if last or (step + 1) % self._config.checkpoint.every_steps == 0:
                self._report_with_checkpoint(metrics, step + 1, with_trained=last)
            else:
                train.report(metrics)

    def _step(self, step: int) -> dict[str, float]:
        """One optimizer step over the global batch; its metrics, the same on every rank.

        Each micro batch's summed loss is divided by the learned tokens of the whole global batch, known to
        all from the dataset, so that every token weighs the same however the batch is cut. The factor undoes
        DeepSpeed's averages over workers and accumulation steps.
        """
        config, started = self._config, time.perf_counter()
        learning_rate = learning_rate_at(step, config, self._steps)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = learning_rate
        positions = batch_positions(step, len(self._dataset), config.global_batch_size, config.seed)
        weight = self._objective.weight(positions)
        total = torch.zeros((), device=self._device)
        for micro_batch in self._own_share(positions):
            loss = self._objective.summed_loss(self._engine, micro_batch, self._device)
            total += loss.detach()
            self._engine.backward(loss * config.num_workers * config.gradient_accumulation_steps / weight)
            gradient_norm = self._gradient_norm()  # before step(), which clips and clears
            self._engine.step()
        torch.distributed.all_reduce(total)
        num_tokens = self._objective.num_tokens(positions)
        seconds = time.perf_counter() - started
        return {
            "step": float(step + 1),
            "loss": float(total) / weight,
            "learning_rate": learning_rate,
            "gradient_norm": float(self._engine.get_global_grad_norm() or gradient_norm),
            "tokens_per_second": num_tokens / seconds,
            "step_seconds": seconds,
            "trainable_parameters": float(self._trainable),
            "all_parameters": float(self._all),
        }

    def _gradient_norm(self) -> float:
        """The norm over all gradients where DeepSpeed does not offer it (stage 0 in fp32), else 0."""
        if self._config.zero.stage or not self._engine.is_gradient_accumulation_boundary():
            return 0.0
        gradients = [p.grad for p in self._model.parameters() if p.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients))

    def _own_share(self, positions: list[int]) -> list[list[int]]:
        """This rank's micro batches of a global batch."""
        size = self._config.micro_batch_size
        own = len(positions) // self._config.num_workers
        mine = positions[self._rank * own : (self._rank + 1) * own]
        return [mine[start : start + size] for start in range(0, own, size)]

    def _report_with_checkpoint(self, metrics: dict[str, float], steps_done: int, with_trained: bool) -> None:
        """Save everything a resumed run needs, without the frozen weights, which the base model has."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self._engine.save_checkpoint(
                name,
                tag=STATE_TAG,
                client_state={"steps_done": steps_done},
                exclude_frozen_parameters=True,
            )
            np.save(folder / f"rng-{self._rank}.npy", torch.get_rng_state().numpy())
            if with_trained:
                self._save_trained(folder / TRAINED_FOLDER)
            train.report(metrics, checkpoint=train.Checkpoint.from_directory(name))

    def _resume(self) -> int:
        """Load the last checkpoint, if there is one; returns the number of steps already done."""
        checkpoint = train.get_checkpoint()
        if checkpoint is None:
            return 0
        with checkpoint.as_directory() as folder:
            _, state = self._engine.load_checkpoint(folder, tag=STATE_TAG, load_module_strict=False)
            saved = Path(folder) / f"rng-{self._rank}.npy"
            if saved.exists():
                torch.set_rng_state(torch.from_numpy(np.load(saved, allow_pickle=False)))
        return int(state["steps_done"])

    def _save_trained(self, folder: Path) -> None:
        """Write the trained parameters: an adapter folder for LoRA, a whole model folder otherwise.

        Every rank comes here, as ZeRO-3 collects each parameter from all of them; only rank 0 writes.
        """
        state: dict[str, Any] = {}
        for name, parameter in self._model.named_parameters():
            if parameter.requires_grad:
                with deepspeed.zero.GatheredParameters([parameter], enabled=hasattr(parameter, "ds_id")):
                    state[name] = parameter.detach().to("cpu", copy=True)
        if self._rank == 0:
            self._model.save_pretrained(folder, state_dict=state)
            copy_tokenizer(self._base_folder, folder)


def _skip_compiled_all_reduce() -> None:
    """Let gloo add gradients up on CPU workers.

    DeepSpeed would compile a shared-memory version first: over a minute at the first use on two cores, and
    a machine without a C++ compiler could not train at all.
    """
    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    if builder is not None:
        deepspeed.ops.__compatible_ops__[builder.NAME] = False
