"""What the driver tells the workers, as plain JSON. Light, so that the driver need not load DeepSpeed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heliostat.models.added_tokens import ADDED_TOKENS
from heliostat.records import Artifact
from heliostat.storage import artifact_folder
from heliostat.training.config import TrainConfig

if TYPE_CHECKING:
    from heliostat.training.objectives.selection import ObjectiveInputs

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp8": "bfloat16"}
"""A precision's type of the weights, as torch calls it."""
TRAINED_FOLDER = "trained"
"""Where the last checkpoint holds the trained parameters in transformers' or PEFT's form."""


@dataclass(frozen=True)
class TrainingJob:
    """A config and what it is applied to."""

    config: TrainConfig
    model: Artifact
    dataset: Artifact
    teacher: Artifact | None = None
    """What a distillation learns from."""
    faults_folder: str = ""
    """Where a batch that went wrong is kept."""
    tracker_uri: str = ""
    tracking_run_id: str = ""
    stop_bell: str = ""
    """The name of what says when to save and stop."""
    starts_from: str = ""
    """The saved state of another run, for a run that has none of its own yet."""
    pause_after: int | None = None
    """The step behind which to save and stop, where that is not the last one."""

    def objective_inputs(self, dtype: str) -> "ObjectiveInputs":
        """What the model and its objective are made from, on whatever host this is."""
        from heliostat.training.objectives.selection import ObjectiveInputs

        return ObjectiveInputs(
            self.config,
            artifact_folder(self.model),
            artifact_folder(self.dataset),
            dtype=dtype,
            added_token_ids=tuple(self.model.facts.get(ADDED_TOKENS, ())),
            teacher_folder=artifact_folder(self.teacher) if self.teacher else None,
        )

    def to_json(self) -> dict[str, Any]:
        """The job as JSON values."""
        return {
            "config": self.config.model_dump(mode="json"),
            "model": self.model.model_dump(mode="json"),
            "dataset": self.dataset.model_dump(mode="json"),
            "teacher": self.teacher.model_dump(mode="json") if self.teacher else None,
            "faults_folder": self.faults_folder,
            "tracker_uri": self.tracker_uri,
            "tracking_run_id": self.tracking_run_id,
            "stop_bell": self.stop_bell,
            "starts_from": self.starts_from,
            "pause_after": self.pause_after,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "TrainingJob":
        """The inverse of `to_json`."""
        return cls(
            TrainConfig.model_validate(values["config"]),
            Artifact.model_validate(values["model"]),
            Artifact.model_validate(values["dataset"]),
            Artifact.model_validate(values["teacher"]) if values["teacher"] else None,
            values["faults_folder"],
            values["tracker_uri"],
            values["tracking_run_id"],
            values["stop_bell"],
            values["starts_from"],
            values["pause_after"],
        )
