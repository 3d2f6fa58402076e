"""What a training run is told. Light: nothing here imports torch, ray or deepspeed."""

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from heliostat.config import Config, Resources
from heliostat.training.adapter_config import (
    VIRTUAL_TOKENS,
    Adapter,
    FreezeAdapter,
    FullAdapter,
    LoraAdapter,
    PrefixTuningAdapter,
    PromptTuningAdapter,
)
from heliostat.training.change_config import Change
from heliostat.training.curriculum_config import CurriculumConfig
from heliostat.training.layout_config import LayoutConfig, ZeroConfig
from heliostat.training.objective_config import (
    NEXT_TOKEN,
    DistillationObjective,
    DpoObjective,
    Objective,
    PretrainingObjective,
    RewardObjective,
    SftObjective,
)
from heliostat.training.validation_config import ValidationConfig
from heliostat.training.watch_config import WatchConfig

__all__ = [
    "Adapter",
    "Change",
    "CheckpointConfig",
    "CurriculumConfig",
    "DistillationObjective",
    "DpoObjective",
    "FreezeAdapter",
    "FullAdapter",
    "LayoutConfig",
    "LoraAdapter",
    "Objective",
    "PrefixTuningAdapter",
    "PretrainingObjective",
    "PromptTuningAdapter",
    "RewardObjective",
    "SftObjective",
    "TrainConfig",
    "ValidationConfig",
    "WatchConfig",
    "ZeroConfig",
]

FAILURES_OF_ELASTIC = 3
Workers = Annotated[int, Field(ge=1)]


class CheckpointConfig(Config):
    """How often the training state is kept, and how many of the last states."""

    every_steps: int = Field(default=500, ge=1)
    num_to_keep: int = Field(default=2, ge=1)


class TrainConfig(Config):
    """One training run. The same recipe runs on CPU workers (gloo) and GPU workers (nccl): `use_gpu`."""

    # These change when state is saved, where work runs and how a global batch is cut, not the losses.
    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset(
        {
            "checkpoint",
            "watch",
            "validation",
            "max_failures",
            "cpus_per_worker",
            "num_workers",
            "micro_batch_size",
            "gradient_accumulation_steps",
        }
    )

    name: str = "tuned"
    objective: Objective = SftObjective()
    adapter: Adapter = LoraAdapter()
    layout: LayoutConfig = LayoutConfig()
    num_workers: Workers | tuple[Workers, Workers] = Field(
        default=1, description="how many, or [least, most]: then the run goes on with those there are"
    )
    use_gpu: bool = False
    cpus_per_worker: float = Field(default=1, gt=0)
    global_batch_size: int | None = Field(
        default=None, ge=1, description="packed sequences in one optimizer step, over all workers"
    )
    micro_batch_size: int = Field(default=1, ge=1, description="packed sequences a worker handles at once")
    gradient_accumulation_steps: int | None = Field(default=None, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    num_epochs: float | None = Field(default=None, gt=0)
    learning_rate: float = Field(default=2e-4, gt=0)
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    min_learning_rate_ratio: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_gradient_norm: float = Field(default=1.0, gt=0)
    changes: tuple[Change, ...] = Field(
        default=(), description="other rates from a step on, in the order of the steps"
    )
    expert_balance_rate: float = Field(
        default=1e-3, ge=0, description="what a step adds to the bias of an expert with too few tokens"
    )
    seed: int = Field(default=0, ge=0)
    curriculum: CurriculumConfig | None = None
    checkpoint: CheckpointConfig = CheckpointConfig()
    validation: ValidationConfig | None = None
    watch: WatchConfig = WatchConfig()
    max_failures: int | None = Field(
        default=None,
        ge=0,
        description="restarts from the last checkpoint; 3 where num_workers is a range, else 0",
    )

    @property
    def min_workers(self) -> int:
        """The least workers the run goes on with."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[0]

    @property
    def max_workers(self) -> int:
        """The most workers the run takes."""
        return self.num_workers if isinstance(self.num_workers, int) else self.num_workers[1]

    @property
    def failures_allowed(self) -> int:
        """Restarts before the run gives up. Who says how few workers will do expects to lose some."""
        if self.max_failures is not None:
            return self.max_failures
        return FAILURES_OF_ELASTIC if self.min_workers < self.max_workers else 0

    @property
    def sequences_per_step(self) -> int:
        """Packed sequences in one optimizer step, over all workers, whatever their number."""
        if self.global_batch_size is not None:
            return self.global_batch_size
        return (
            self.replicas(self.max_workers) * self.micro_batch_size * (self.gradient_accumulation_steps or 1)
        )

    @property
    def resources_per_worker(self) -> Resources:
        """What one worker needs."""
        return Resources(num_cpus=self.cpus_per_worker, num_gpus=1 if self.use_gpu else 0)

    def replicas(self, num_workers: int) -> int:
        """Copies of the model among so many workers: what the global batch is divided over."""
        return num_workers // self.layout.model_parallel

    def micro_batches(self, num_workers: int) -> int:
        """Micro batches a replica handles in one step. With a number of workers that does not divide the
        global batch, an elastic run's last ones are empty for some."""
        return -(-self.sequences_per_step // (self.replicas(num_workers) * self.micro_batch_size))

    def _nearest_batch(self, at_once: int) -> str:
        """What to change so that the stated global batch can be cut: the micro batch if that is enough."""
        replicas, batch = self.replicas(self.max_workers), self.global_batch_size or 1
        other = f"global_batch_size: {max(1, round(batch / at_once)) * at_once}"
        if batch % replicas:
            return other
        return f"micro_batch_size: {nearest_divisor(batch // replicas, self.micro_batch_size)}, or {other}"

    def canonical(self) -> dict[str, Any]:
        """What decides the result: the global batch, however it was said, and not how it is cut."""
        values = super().canonical() | {"global_batch_size": self.sequences_per_step}
        if not self.changes:
            del values["changes"]
        if self.validation and self.validation.by == "workers":  # the run's own figures hold it
            values["validation"] = self.validation.canonical()
        return values

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.max_steps is not None and self.num_epochs is not None:
            raise ValueError("max_steps and num_epochs both set the length of the run; give one of them")
        return self

    @model_validator(mode="after")
    def _check_changes(self) -> Self:
        steps = [change.after_step for change in self.changes]
        if steps != sorted(set(steps)):
            raise ValueError(f"changes: after_step {steps} must grow; write each step once, the first first")
        if steps and self.max_steps is not None and steps[-1] >= self.max_steps:
            raise ValueError(
                f"changes: nothing is left of {self.max_steps} steps after step {steps[-1]}; "
                "leave that change out, or raise max_steps"
            )
        return self

    @model_validator(mode="after")
    def _check_workers(self) -> Self:
        least, most, group = self.min_workers, self.max_workers, self.layout.model_parallel
        if least > most:
            raise ValueError(f"num_workers: [{least}, {most}] has the most before the least; swap them")
        if least != most and (group > 1 or self.layout.expert_parallel > 1):
            raise ValueError(
                f"num_workers: [{least}, {most}] changes the number of replicas, which a layout that splits "
                f"the model cannot follow; set num_workers: {max(1, most // group) * group}"
            )
        if most % group:
            parts = [
                f"{name}: {getattr(self.layout, name)}"
                for name in ("tensor_parallel", "pipeline_parallel", "sequence_parallel")
                if getattr(self.layout, name) > 1
            ]
            raise ValueError(
                f"num_workers: {most} is no multiple of the {group} workers that one copy of the model "
                f"takes ({', '.join(parts)}); the nearest is num_workers: "
                f"{max(1, round(most / group)) * group}"
            )
        if self.replicas(most) % self.layout.expert_parallel:
            raise ValueError(
                f"expert_parallel: {self.layout.expert_parallel} does not divide num_workers: {most}; the "
                f"nearest is expert_parallel: {nearest_divisor(most, self.layout.expert_parallel)}"
            )
        return self

    @model_validator(mode="after")
    def _check_batch(self) -> Self:
        """The product is what was said, or there is no run. Nothing is adjusted in silence."""
        if self.global_batch_size is None:
            return self
        at_once = self.replicas(self.max_workers) * self.micro_batch_size
        steps = self.gradient_accumulation_steps
        workers = f"{self.replicas(self.max_workers)} replica(s)"
        if steps is not None and at_once * steps != self.global_batch_size:
            raise ValueError(
                f"global_batch_size: {self.global_batch_size} is not micro_batch_size "
                f"{self.micro_batch_size} x gradient_accumulation_steps {steps} x {workers} = "
                f"{at_once * steps}; leave gradient_accumulation_steps out to have it computed"
            )
        if self.global_batch_size % at_once:
            raise ValueError(
                f"global_batch_size: {self.global_batch_size} cannot be cut into micro batches of "
                f"{self.micro_batch_size} for {workers}; the nearest is {self._nearest_batch(at_once)}"
            )
        return self

    @model_validator(mode="after")
    def _check_devices(self) -> Self:
        layout = self.layout
        if not self.use_gpu and layout.precision == "fp16":
            raise ValueError(
                f"layout.precision: {layout.precision} needs GPUs (use_gpu: true); on CPU the nearest is bf16"
            )
        return self

    @model_validator(mode="after")
    def _check_validation(self) -> Self:
        cut = next(
            (n for n in ("pipeline_parallel", "sequence_parallel") if getattr(self.layout, n) > 1), None
        )
        if self.validation and self.validation.by == "workers" and cut:
            raise ValueError(
                f"validation: {{by: workers}} needs the whole model in one pass, and {cut} cuts it; the "
                "nearest is validation: {by: task}"
            )
        return self

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        """What an objective or an adapter cannot do under a layout."""
        layout, adapter, objective = self.layout, self.adapter, self.objective
        if layout.pipeline_parallel > 1 and not isinstance(objective, NEXT_TOKEN):
            raise ValueError(
                f"objective {objective.kind} needs the whole model in one pass, and pipeline_parallel cuts "
                "it; the nearest is tensor_parallel"
            )
        if layout.sequence_parallel > 1 and not isinstance(objective, NEXT_TOKEN):
            raise ValueError(
                f"objective {objective.kind} looks at whole rows, and sequence_parallel cuts them; the "
                "nearest is activation_checkpointing: true"
            )
        if layout.sequence_parallel > 1 and isinstance(adapter, VIRTUAL_TOKENS):
            raise ValueError(
                f"adapter {adapter.kind} puts tokens in front of a row, and sequence_parallel cuts rows; the "
                "nearest is lora"
            )
        if layout.splits_model and not isinstance(adapter, (FullAdapter, FreezeAdapter)):
            raise ValueError(
                f"adapter {adapter.kind} works with data parallel and ZeRO only; the nearest is "
                "layout: {zero: {stage: 3}}, which splits the frozen weights too"
            )
        if isinstance(adapter, PrefixTuningAdapter) and layout.activation_checkpointing:
            raise ValueError(
                "adapter prefix_tuning puts keys in front of a row, which activation_checkpointing forgets; "
                "the nearest is lora, or activation_checkpointing: false with a smaller micro_batch_size"
            )
        if isinstance(adapter, VIRTUAL_TOKENS) and not isinstance(objective, NEXT_TOKEN):
            raise ValueError(
                f"objective {objective.kind} does not work with adapter {adapter.kind}; use lora"
            )
        return self


def nearest_divisor(number: int, wish: int) -> int:
    """The divisor of a number that is nearest to the wish; the smaller one of two."""
    return min((d for d in range(1, number + 1) if number % d == 0), key=lambda d: (abs(d - wish), d))
