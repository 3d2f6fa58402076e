"""What a run watches in itself, and what it does then. Light: no torch, ray or deepspeed here."""

from typing import Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config

Action = Literal["off", "warn", "stop"]


class LossSpikeWatch(Config):
    """A loss that leaves the last steps' range upwards (the spike score of OLMo 2, 2025, arXiv:2501.00656,
    counts losses 7 deviations above a rolling mean; this one is robust against the spikes themselves)."""

    action: Action = "warn"
    window: int = Field(default=50, ge=10, description="steps that a loss is compared with")
    factor: float = Field(default=8, gt=0, description="robust standard deviations above their median")


class GradientNormWatch(Config):
    """A gradient norm that stays outside a range."""

    action: Action = "warn"
    least: float = Field(default=1e-3, ge=0)
    most: float = Field(default=10, gt=0)
    steps: int = Field(default=10, ge=1, description="steps whose median norm must be outside")
    after_steps: int = Field(default=20, ge=0, description="a run's first steps, which may be outside")

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.least >= self.most:
            raise ValueError(f"least: {self.least} is not below most: {self.most}; swap them")
        return self


class StallWatch(Config):
    """A worker that makes no steps any more."""

    action: Action = "warn"
    seconds: float | None = Field(
        default=None, gt=0, description="without a step; else from the measured time between steps"
    )
    factor: float = Field(default=20, gt=1, description="times the median time between steps")
    at_least_seconds: float = Field(default=300, gt=0, description="room for a checkpoint or an evaluation")
    first_step_seconds: float = Field(default=1800, gt=0, description="room for loading the model")


class StragglerWatch(Config):
    """A rank that is slower than the others, which wait for it at every step."""

    action: Action = "warn"
    factor: float = Field(default=1.5, gt=1, description="times the median of all ranks")
    steps: int = Field(default=20, ge=1, description="steps whose median must be above")


class WatchConfig(Config):
    """What a run watches in itself. A loss or a gradient that is not finite always stops it."""

    loss_spike: LossSpikeWatch = LossSpikeWatch()
    gradient_norm: GradientNormWatch = GradientNormWatch()
    stall: StallWatch = StallWatch()
    straggler: StragglerWatch = StragglerWatch()
    on_out_of_memory: Literal["stop", "adapt"] = Field(
        default="stop", description="adapt: go on from the last checkpoint with a batch cut smaller, say"
    )
    layer_norms_every_steps: int = Field(
        default=10,
        ge=0,
        description="gradient norms by group of layers and the norm of the weights; 0 leaves them out",
    )
