"""DeepSpeed around one model: data parallel with ZeRO, tensor parallel (AutoTP).

Knows a step, saving and loading; nothing of Ray, of data, or of when a step is due. Its subclasses are
in `edge_pipeline.py` and `edge_experts.py`.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.module_inject.layers import GatherReplacedLayerParams

from heliostat.training.config import TrainConfig
from heliostat.training.gradient_norms import gradient_norms_by_group
from heliostat.training.layout import deepspeed_config
from heliostat.training.objectives.interface import Loss, Objective
from heliostat.training.schedule import Rates
from heliostat.training.shared_training import SharedTraining
from heliostat.training.timing import StepTimer

STATE_TAG = "state"
Sums = dict[str, float]


class NotFiniteStepError(ArithmeticError):
    """A loss or a gradient is NaN or infinite, and no weight was changed by it yet."""

    def __init__(self, what: str, micro_batches: Sequence[list[int]]) -> None:
        """`what` it was, and in which of this worker's micro batches it may be; some may be empty."""
        super().__init__(what)
        self.micro_batches = micro_batches


class NotFiniteNormError(NotFiniteStepError):
    """The norm of the gradients, which is over all workers: so all of them raise it."""

    def __init__(self, micro_batches: Sequence[list[int]]) -> None:
        """What it came from may be in any of them."""
        super().__init__("the gradient norm", micro_batches)


class ModelEngine:
    """One worker's part of the model, its gradients and its optimizer."""

    def __init__(
        self,
        config: TrainConfig,
        model: Any,
        num_workers: int,
        timer: StepTimer | None = None,
        universal: bool = False,
    ) -> None:
        """Lay `model` out over the workers; `model` itself is changed. `universal` if a state that was split
        over another number of workers will be loaded."""
        skip_compiled_all_reduce()
        self.config = config
        self.model = model
        self.rank = torch.distributed.get_rank()
        self.num_workers = num_workers
        self.num_replicas = config.replicas(num_workers)
        self.gradient_norm = 0.0
        """Over all trained parameters, before clipping: of the last step."""
        self.reads_rows = True
        """Whether the micro batch at hand is not empty."""
        self.step_skipped = False
        """Whether fp16's loss scale was too large for the last step, which then changed nothing."""
        self.timer = timer or StepTimer(config.use_gpu)
        self.group_norms: dict[str, float] | None = None
        """Set to {} before a step, it holds the gradients' norm by group of layers after it."""
        if config.layout.activation_checkpointing:
            self._checkpoint_activations()
        self.engine = self._initialize(
            deepspeed_config(config, num_workers, model.config.model_type)
            | {"checkpoint": {"load_universal": universal}}
        )
        # Here, because a state that is loaded may give all groups what the first one has.
        self._decays = [group["decays"] for group in self.engine.optimizer.param_groups]
        self.device = get_accelerator().current_device_name()
        self.timer.begin_forward_with(self.model)
        self.engine.clip_fp32_gradients = self._clip  # where DeepSpeed would clip, exactly and only once
        self._shared = self._share_training()
        self.engine.train()

    @property
    def replica(self) -> int:
        """Which copy of the model this worker has a part of: what decides its share of a batch."""
        return int(self.rank // self.config.layout.model_parallel)

    @property
    def writes_trained(self) -> bool:
        """Whether this worker writes trained parameters."""
        return bool(self.rank == 0)

    def step(
        self, objective: Objective, micro_batches: Sequence[list[int]], weight: float, rates: Rates
    ) -> Sums:
        """One optimizer step over this replica's micro batches: the whole global batch's loss and metrics.

        Each micro batch's summed loss is divided by `weight`, that of the whole global batch, so that every
        token weighs the same however the batch is cut. The factor undoes DeepSpeed's averages over workers
        with rows, or pieces of rows, of their own and over micro batches. An empty micro batch takes part in
        the exchange of gradients and adds nothing.
        """
        self._set_rates(rates)
        self._micro_batches = micro_batches
        pieces = self.num_replicas * self.config.layout.sequence_parallel
        factor = pieces * len(micro_batches) / weight
        sums: dict[str, torch.Tensor] = {}
        for number, micro_batch in enumerate(micro_batches, 1):
            self.timer.begin("data")
            self.reads_rows = bool(micro_batch)
            loss = objective.loss(self.engine, micro_batch or [0], self.device)
            self._check_finite(loss, micro_batch)
            counted = 1.0 if micro_batch else 0.0
            for name, value in {"loss": loss.summed.detach(), **loss.metrics}.items():
                sums[name] = sums.get(name, 0) + value * counted
            self.timer.begin("backward")
            self.engine.backward(loss.summed * (factor * counted))
            self.timer.begin("optimizer")
            if number == len(micro_batches):
                self._note_group_norms()
            self.engine.step()
        self.timer.begin("other")
        self._note_norm()
        return self._over_replicas(sums, weight)

    def save(self, folder: Path) -> None:
        """Write this worker's shard of the training state, without frozen weights. All workers call it."""
        self.engine.save_checkpoint(str(folder), tag=STATE_TAG, exclude_frozen_parameters=True)

    def load(self, folder: Path, tag: str) -> None:
        """Take up a saved state."""
        self.engine.load_checkpoint(str(folder), tag=tag, load_module_strict=False)
        if self._shared is not None:
            self._shared.share_state()

    def whole_tensors(self, trained: bool) -> Iterator[tuple[str, torch.Tensor]]:
        """Each parameter that is trained, or is not: whole, on the CPU, under the model's own name for it.

        All workers iterate, as what is split is collected from all.
        """
        for name, parameter in self._own_parameters():
            if parameter.requires_grad == trained:
                with self._gathered(parameter):
                    yield name, parameter.detach().to("cpu", copy=True)

    def buffers(self) -> Iterator[tuple[str, torch.Tensor]]:
        """What a model keeps beside its parameters, such as the bias that balances its experts."""
        kept = self.model.state_dict(keep_vars=True)
        for name, buffer in self.model.named_buffers():
            if name in kept:
                yield name, buffer.detach().to("cpu", copy=True)

    def _initialize(self, settings: dict[str, Any]) -> Any:
        engine, *_ = deepspeed.initialize(
            model=self.model, model_parameters=parameter_groups(self.model, self.config), config=settings
        )
        return engine

    def _checkpoint_activations(self) -> None:
        self.model.gradient_checkpointing_enable({"use_reentrant": False})
        if hasattr(self.model, "enable_input_require_grads"):  # frozen embeddings would end the graph there
            self.model.enable_input_require_grads()

    def _own_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        yield from self.model.named_parameters()

    def _gathered(self, parameter: torch.nn.Parameter) -> Any:
        if hasattr(parameter, "ds_id"):
            return deepspeed.zero.GatheredParameters([parameter])
        return GatherReplacedLayerParams([parameter], self.model)

    def _set_rates(self, rates: Rates) -> None:
        for group, decays in zip(self.engine.optimizer.param_groups, self._decays, strict=True):
            group["lr"] = rates.learning_rate
            group["weight_decay"] = rates.weight_decay if decays else 0.0

    def _over_replicas(self, sums: dict[str, torch.Tensor], weight: float) -> Sums:
        """The sums of all replicas, divided by what the global batch weighs. Workers that share matrices have
        the same sums."""
        values = torch.stack([value.float() for value in sums.values()])
        if self.num_workers > 1:
            torch.distributed.all_reduce(values)
        shared = weight * self.config.layout.tensor_parallel
        return {name: float(value) / shared for name, value in zip(sums, values, strict=True)}

    def _check_finite(self, loss: Loss, micro_batch: list[int]) -> None:
        """Stop before the backward pass spoils a gradient. Where weights are split, all workers stop
        together: looking for the cause takes all of them."""
        layout = self.config.layout
        wrong = (~torch.isfinite(loss.summed.detach())).float()
        split = (layout.tensor_parallel, layout.expert_parallel, layout.sequence_parallel)
        if layout.zero.stage == 3 or max(split) > 1:
            torch.distributed.all_reduce(wrong)
        if float(wrong):
            raise NotFiniteStepError("the loss", [micro_batch])

    def _share_training(self) -> SharedTraining | None:
        """Let CPU workers that would have a whole copy of the model each share one."""
        layout = self.config.layout
        copies = layout.zero.stage == 0 and not layout.splits_model
        if self.num_workers == 1 or self.config.use_gpu or not copies:
            return None
        shared = SharedTraining.join(list(self.model.parameters()), self.engine.optimizer)
        if shared is not None:
            self.engine.buffered_allreduce_fallback = lambda **_: shared.average()  # in DeepSpeed's place
        return shared

    def _note_group_norms(self) -> None:
        """By group of layers, where a worker has whole gradients or can collect them."""
        layout = self.config.layout
        if self.group_norms is None or layout.splits_model:
            return
        collect = deepspeed.utils.safe_get_full_grad if layout.zero.stage else None
        self.group_norms = gradient_norms_by_group(self.model.named_parameters(), collect)
        if self._shared is not None:  # the others may still be reading what is clipped next
            torch.distributed.barrier()

    def parameter_norm(self) -> float | None:
        """Of all trained weights of the model, each counted once; None where they lie on a disk. All workers
        call it."""
        zero = self.config.layout.zero
        if zero.offload_parameters and zero.nvme_path:
            return None
        trained = [p for p in self.engine.module.parameters() if p.requires_grad]
        copies = [max(1, self._copies(p) // _num_pieces(p)) for p in trained]
        return self._norm_of_all([_held_here(p) for p in trained], copies)

    def _note_norm(self) -> None:
        """Of steps that DeepSpeed clips itself. What it leaves out for a norm that is no number changed no
        weight; only with fp16 that is no fault: its loss scale starts high and comes down so."""
        layout = self.config.layout
        if not layout.zero.stage and layout.precision == "fp32":
            return
        offered = self.engine.get_global_grad_norm()
        if offered is not None:
            self.gradient_norm = float(offered)
        skipped = bool(getattr(self.engine.optimizer, "overflow", False))
        self.step_skipped = skipped and layout.precision == "fp16"
        if not self.step_skipped and (skipped or not math.isfinite(self.gradient_norm)):
            raise NotFiniteNormError(self._micro_batches)

    def _clip(self) -> None:
        """Clip to `max_gradient_norm` over all parameters of the model."""
        self.gradient_norm = self._shared.norm if self._shared is not None else self._norm()
        if not math.isfinite(self.gradient_norm):
            raise NotFiniteNormError(self._micro_batches)
        limit = self.config.max_gradient_norm
        factor = limit / (self.gradient_norm + 1e-6) if self.gradient_norm > limit else 1.0
        if self._shared is not None:
            self._shared.keep_share(factor)
        elif factor != 1.0:
            torch._foreach_mul_(
                [p.grad for p in self.engine.module.parameters() if p.grad is not None], factor
            )

    def _norm(self) -> float:
        """Of the gradients of all parameters of the model, each counted once.

        DeepSpeed's own averages the norms of expert parameters over workers, which is not their norm.
        """
        parameters = [p for p in self.engine.module.parameters() if p.grad is not None]
        return self._norm_of_all([p.grad for p in parameters], [self._copies(p) for p in parameters])

    def _norm_of_all(self, tensors: list[torch.Tensor], copies: list[int]) -> float:
        """The norm over all workers' tensors, of each of which so many workers have a copy."""
        norms = torch.stack(torch._foreach_norm(tensors, dtype=torch.float32))
        shares = torch.tensor([1.0 / each for each in copies], device=norms.device)
        squared = (norms.square() * shares).sum()
        if self._is_alike_everywhere(copies):
            squared = squared * self.num_workers
        else:
            squared = squared.to(self.device)  # what is offloaded is elsewhere
            torch.distributed.all_reduce(squared)
        return float(squared.sqrt())

    def _is_alike_everywhere(self, copies: list[int]) -> bool:
        """Whether every worker has all of the model, so that none has to ask the others."""
        split = self.config.layout.splits_model or self.config.layout.zero.stage == 3
        return not split and all(each == self.num_workers for each in copies)

    def _copies(self, parameter: torch.nn.Parameter) -> int:
        """How many workers hold this very parameter (or this very shard of one)."""
        layout = self.config.layout
        if not getattr(parameter, "allreduce", True):
            return self.num_workers // layout.expert_parallel
        split = layout.tensor_parallel if getattr(parameter, "tensor_model_parallel", False) else 1
        return self.num_workers // layout.pipeline_parallel // split


def _held_here(parameter: torch.nn.Parameter) -> torch.Tensor:
    """What this worker holds of a parameter: under ZeRO-3 a piece, without what fills the last one up."""
    piece = getattr(parameter, "ds_tensor", None)
    if piece is None:
        return parameter.detach()
    rank = torch.distributed.get_rank(parameter.ds_process_group)
    left = parameter.ds_numel - rank * piece.ds_numel
    return piece.detach().flatten()[: max(0, min(left, piece.ds_numel))]


def _num_pieces(parameter: torch.nn.Parameter) -> int:
    """Into how many a parameter is cut under ZeRO-3."""
    if not hasattr(parameter, "ds_tensor"):
        return 1
    return int(torch.distributed.get_world_size(parameter.ds_process_group))


def parameter_groups(model: torch.nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Matrices decay; vectors (norms, biases) and embeddings do not."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    trained = [p for p in model.parameters() if p.requires_grad]
    decay = [p for p in trained if p.ndim > 1 and id(p) not in embeddings]
    rest = [p for p in trained if p.ndim <= 1 or id(p) in embeddings]
    groups = [
        {"name": "decayed", "decays": True, "params": decay, "weight_decay": config.weight_decay},
        {"name": "others", "decays": False, "params": rest, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def skip_compiled_all_reduce() -> None:
    """Let gloo add gradients up on CPU workers.

    DeepSpeed would compile a shared-memory version first: over a minute at the first use on two cores, and
    a machine without a C++ compiler could not train at all.
    """
    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    if builder is not None:
        deepspeed.ops.__compatible_ops__[builder.NAME] = False
