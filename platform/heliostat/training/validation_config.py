"""How a run is judged on held-out documents while it goes on, as a recipe says it."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config, Resources


class ValidationConfig(Config):
    """Every so many steps what is trained so far is scored: by a task of its own while training goes on, or
    by the workers between two steps, who write no samples."""

    every_steps: int | None = Field(default=None, ge=1)
    at_steps: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="these steps instead; behind the last one in any case"
    )
    by: Literal["task", "workers"] = Field(
        default="task",
        description="workers: they stop for it, and the step's own metrics hold the figures",
    )
    split: Literal["validation", "test"] = "validation"
    max_sequences: int = Field(default=64, ge=1, description="the split's first ones")
    num_samples: int = Field(
        default=2, ge=0, description="answers that the model writes, to be read by people"
    )
    sample_tokens: int = Field(default=48, ge=1)
    resources: Resources = Field(
        default=Resources(num_cpus=0), description="0 CPUs: the task shares those that training has"
    )

    @model_validator(mode="after")
    def _check_steps(self) -> Self:
        if (self.every_steps is None) == (not self.at_steps):
            raise ValueError("give every_steps, or at_steps; one of them")
        return self

    def is_due(self, steps_done: int) -> bool:
        """Whether the model is scored behind this step; behind the last one it always is."""
        return steps_done in self.at_steps or bool(self.every_steps and steps_done % self.every_steps == 0)
