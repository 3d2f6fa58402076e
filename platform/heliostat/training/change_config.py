"""Other values from a step on, as a recipe says them."""

from typing import Self

from pydantic import Field, model_validator

from heliostat.config import Config


class Change(Config):
    """What the run goes on with behind a step. What is not given stays as it is."""

    after_step: int = Field(ge=1)
    learning_rate: float | None = Field(default=None, gt=0, description="the peak, as if from the beginning")
    weight_decay: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        if self.learning_rate is None and self.weight_decay is None:
            raise ValueError(f"changes: nothing is changed after step {self.after_step}; give learning_rate")
        return self


CHANGEABLE = tuple(name for name in Change.model_fields if name != "after_step")
"""The fields of `TrainConfig` that may change while a run goes on."""
