"""What a compression is told: defaults that follow the scheme, and what is refused before any work."""

import pytest
from pydantic import TypeAdapter, ValidationError

from heliostat.compression.config import CompressConfig, OpenVINOConfig

ADAPTER = TypeAdapter(CompressConfig)


def test_a_section_without_a_kind_is_for_openvino():
    assert ADAPTER.validate_python({"scheme": "int8"}) == OpenVINOConfig()


def test_four_bits_may_lose_more_unless_told():
    assert (OpenVINOConfig().max_loss, OpenVINOConfig(scheme="int4").max_loss) == (0.02, 0.08)
    assert OpenVINOConfig(scheme="int4", max_loss=0.01).max_loss == 0.01


def test_nothing_is_calibrated_on_what_is_scored():
    with pytest.raises(ValidationError, match=r"calibration\.split: test is the split that is scored"):
        OpenVINOConfig(scheme="int4", calibration={"split": "test"})


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"scheme": "int3"}, "scheme"),
        ({"scheme": "int4", "ratio": 0}, "ratio"),
        ({"scheme": "int4", "methods": ["round"]}, "methods"),
    ],
)
def test_what_nobody_knows_is_refused(values, complaint):
    with pytest.raises(ValidationError, match=complaint):
        ADAPTER.validate_python(values)
