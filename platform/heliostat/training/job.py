"""What the driver tells the workers, as plain JSON. Light, so that the driver need not load DeepSpeed."""

from dataclasses import dataclass
from typing import Any

from heliostat.records import Artifact
from heliostat.training.config import TrainConfig

TRAINED_FOLDER = "trained"
"""Where the last checkpoint holds the trained parameters in transformers' or PEFT's form."""


@dataclass(frozen=True)
class TrainingJob:
    """A config and what it is applied to."""

    config: TrainConfig
    model: Artifact
    dataset: Artifact

    def to_json(self) -> dict[str, Any]:
        """The job as JSON values."""
        return {
            "config": self.config.model_dump(mode="json"),
            "model": self.model.model_dump(mode="json"),
            "dataset": self.dataset.model_dump(mode="json"),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TrainingJob":
        """The inverse of `to_json`."""
        return cls(
            TrainConfig.model_validate(values["config"]),
            Artifact.model_validate(values["model"]),
            Artifact.model_validate(values["dataset"]),
        )
