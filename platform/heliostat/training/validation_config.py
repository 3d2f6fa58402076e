"""How a run is judged on held-out documents while it goes on, as a recipe says it."""

from typing import Literal

from pydantic import Field

from heliostat.config import Config, Resources


class ValidationConfig(Config):
    """Every so many steps a task of its own loads what is trained so far, and scores it. Training goes on."""

    every_steps: int = Field(ge=1)
    split: Literal["validation", "test"] = "validation"
    max_sequences: int = Field(default=64, ge=1, description="the split's first ones")
    num_samples: int = Field(
        default=2, ge=0, description="answers that the model writes, to be read by people"
    )
    sample_tokens: int = Field(default=48, ge=1)
    resources: Resources = Field(
        default=Resources(num_cpus=0), description="0 CPUs: the task shares those that training has"
    )
