"""What the tests of models start from: a copy of the tiny model that a test may break."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def model_copy(tiny_model_folder, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_model_folder, tmp_path / "model"))
