"""What a training run is told. Light: nothing here imports torch, ray or deepspeed."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config, Resources


class FullAdapter(Config):
    """Train all parameters."""

    kind: Literal["full"] = "full"


class LoraAdapter(Config):
    """Train low-rank updates of some linear layers (Hu et al., 2021, arXiv:2106.09685)."""

    kind: Literal["lora"] = "lora"
    r: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: tuple[str, ...] = ("q_proj", "v_proj")


class SftObjective(Config):
    """Supervised fine-tuning: cross entropy over the tokens the dataset marks as learned."""

    kind: Literal["sft"] = "sft"


class ZeroConfig(Config):
    """How DeepSpeed spreads the training state over the workers (Rajbhandari et al., 2020, arXiv:1910.02054).

    Stage 0 copies everything, 1 splits the optimizer state, 2 the gradients too, 3 the weights too.
    """

    stage: Literal[0, 1, 2, 3] = 0


class CheckpointConfig(Config):
    """How often the training state is kept, and how many of the last states."""

    every_steps: int = Field(default=500, ge=1)
    num_to_keep: int = Field(default=2, ge=1)


Adapter = Annotated[FullAdapter | LoraAdapter, Field(discriminator="kind")]


class TrainConfig(Config):
    """One training run. The same recipe runs on CPU workers (gloo) and GPU workers (nccl): `use_gpu`."""

    # These change when state is saved and where work runs, not the losses.
    not_in_fingerprint: ClassVar[frozenset[str]] = frozenset(
        {"checkpoint", "max_failures", "cpus_per_worker"}
    )

    name: str = "tuned"
    objective: SftObjective = SftObjective()
    adapter: Adapter = LoraAdapter()
    zero: ZeroConfig = ZeroConfig()
    num_workers: int = Field(default=1, ge=1)
    use_gpu: bool = False
    cpus_per_worker: float = Field(default=1, gt=0)
    precision: Literal["fp32", "bf16"] = "fp32"
    micro_batch_size: int = Field(default=1, ge=1, description="packed sequences a worker handles at once")
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    max_steps: int | None = Field(default=None, ge=1)
    num_epochs: float | None = Field(default=None, gt=0)
    learning_rate: float = Field(default=2e-4, gt=0)
    warmup_ratio: float = Field(default=0.1, ge=0, le=1)
    min_learning_rate_ratio: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_gradient_norm: float = Field(default=1.0, gt=0)
    seed: int = Field(default=0, ge=0)
    checkpoint: CheckpointConfig = CheckpointConfig()
    max_failures: int = Field(
        default=0, ge=0, description="restarts from the last checkpoint after a lost worker"
    )

    @property
    def global_batch_size(self) -> int:
        """Packed sequences in one optimizer step, over all workers."""
        return self.num_workers * self.micro_batch_size * self.gradient_accumulation_steps

    @property
    def resources_per_worker(self) -> Resources:
        """What one worker needs."""
        return Resources(num_cpus=self.cpus_per_worker, num_gpus=1 if self.use_gpu else 0)

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.max_steps is not None and self.num_epochs is not None:
            raise ValueError("max_steps and num_epochs both set the length of the run; give one of them")
        return self
