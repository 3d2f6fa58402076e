"""The gate's arithmetic, and which architectures are turned away before any work."""

import math
from pathlib import Path

import pytest

from heliostat.compression.config import OpenVINOConfig
from heliostat.compression.gate import check_gate, relative_rise
from heliostat.compression.openvino_graph import check_exportable
from heliostat.errors import ModelError

pytestmark = pytest.mark.heavy


def test_a_rise_within_the_limit_passes():
    check_gate(10.0, 10.19, OpenVINOConfig())
    check_gate(10.0, 9.0, OpenVINOConfig(max_loss=0))
    assert relative_rise(10.0, 10.1) == pytest.approx(0.01)


@pytest.mark.parametrize("after", [10.21, math.inf, math.nan])
def test_a_larger_rise_is_refused_with_the_way_out(after):
    with pytest.raises(ModelError, match=r"allowed is \+2\.00%; raise compress\.max_loss") as caught:
        check_gate(10.0, after, OpenVINOConfig())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config_class", "settings"),
    [
        ("MistralConfig", {"sliding_window": 128}),
        ("Gemma2Config", {}),
        ("MambaConfig", {}),
        ("T5Config", {}),
    ],
)
def test_architectures_with_another_cache_are_refused(config_class, settings):
    import transformers

    config = getattr(transformers, config_class)(**settings)
    with pytest.raises(ModelError, match="cannot be exported to OpenVINO") as caught:
        check_exportable(config, Path("folder"))
    assert config.model_type in str(caught.value)


@pytest.mark.parametrize("config_class", ["LlamaConfig", "Qwen2Config", "Qwen3Config", "GPT2Config"])
def test_architectures_with_a_plain_cache_are_not(config_class):
    import transformers

    check_exportable(getattr(transformers, config_class)(), Path("folder"))
