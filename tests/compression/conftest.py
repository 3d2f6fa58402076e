"""The tiny model exported once as it is, for the tests that read what an export gives."""

from pathlib import Path

import pytest

from heliostat.compression.config import OpenVINOConfig
from heliostat.compression.openvino_export import export_steps

STEPS = ["load", "convert", "compress", "save"]


@pytest.fixture(scope="session")
def exported_folder(tiny_model_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    assert list(export_steps(tiny_model_folder, folder, OpenVINOConfig(scheme="fp32"))) == STEPS
    return folder
