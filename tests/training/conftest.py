"""A model and a tokenized dataset as artifacts, made once for the room."""

from dataclasses import dataclass

import pytest
from small_artifacts import publish_dataset, publish_model

from heliostat.records import Artifact
from heliostat.workspace import Workspace


@dataclass(frozen=True)
class Inputs:
    model: Artifact
    dataset: Artifact


@pytest.fixture(scope="session")
def training_inputs(tiny_model_folder, tmp_path_factory) -> Inputs:
    workspace = Workspace.resolve(str(tmp_path_factory.mktemp("training-inputs")))
    model = publish_model(workspace, tiny_model_folder)
    return Inputs(model, publish_dataset(workspace, tiny_model_folder, count=48, max_sequence_length=128))
