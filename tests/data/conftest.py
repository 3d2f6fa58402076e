"""The tiny model as an artifact, shared by the data room's tests."""

import pytest
from tests.small_artifacts import publish_model

from heliostat.records import Artifact
from heliostat.workspace import Workspace


@pytest.fixture(scope="session")
def model(tmp_path_factory, tiny_model_folder) -> Artifact:
    return publish_model(Workspace.resolve(str(tmp_path_factory.mktemp("models"))), tiny_model_folder)
