"""A model and a tokenized dataset as artifacts, in the workspace of a sweep."""

import pytest
from small_artifacts import publish_dataset, publish_model

from heliostat.tuning.run import SweepInputs


@pytest.fixture
def sweep_inputs(workspace, tiny_model_folder) -> SweepInputs:
    model = publish_model(workspace, tiny_model_folder)
    return SweepInputs(model, publish_dataset(workspace, tiny_model_folder))
