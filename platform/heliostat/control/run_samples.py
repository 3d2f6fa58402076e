"""What a model wrote at each validation of its training: runs/ID/samples/step-0000030.json."""

import re
from typing import Any

from pydantic import ValidationError, model_validator

from heliostat.errors import ArtifactError
from heliostat.records import Record, first_problem
from heliostat.workspace import Workspace

_FILE = re.compile(r"step-(\d+)\.json")


class WrittenSample(Record):
    """What was written behind a held-out prompt, beside what stands there."""

    document_id: str
    prompt: str
    written: str
    expected: str


class StepSamples(Record):
    """All that was written after one step, and the figures on held-out documents, such as validation_loss."""

    step: int
    metrics: dict[str, float]
    samples: tuple[WrittenSample, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _gather_metrics(cls, values: Any) -> Any:
        """In the file the figures stand beside the samples."""
        if not isinstance(values, dict):
            return values
        own = {name: value for name, value in values.items() if name in ("step", "samples")}
        return own | {"metrics": {name: value for name, value in values.items() if name not in own}}


def sample_steps(workspace: Workspace, run_id: str) -> list[int]:
    """The steps after which samples were written, the latest first; [] where none were asked for.

    Raises:
        StorageError: the workspace is away.
    """
    found = (_FILE.fullmatch(name) for name in workspace.storage.list(_folder(run_id)))
    return sorted((int(match[1]) for match in found if match), reverse=True)


def read_samples(workspace: Workspace, run_id: str, step: int) -> StepSamples:
    """What was written after a step.

    Raises:
        ArtifactError: the file is damaged, or it is being written now.
        StorageError: the workspace is away, or there is no such file.
    """
    path = f"{_folder(run_id)}/step-{step:07d}.json"
    try:
        return StepSamples.model_validate_json(workspace.storage.read_bytes(path))
    except ValidationError as error:
        raise ArtifactError(
            f"{path}: {first_problem(error)}; look again when the next step was validated"
        ) from None


def _folder(run_id: str) -> str:
    return f"runs/{run_id}/samples"
