"""What a recipe may say of a model that is built: presets, and sizes that do not go together."""

import pytest
from pydantic import ValidationError

from heliostat.models.scratch_config import DeepseekMoeModel, LlamaModel


@pytest.mark.parametrize("kind", [DeepseekMoeModel, LlamaModel])
def test_presets_have_the_named_widths_and_depths_and_a_field_beside_one_wins(kind):
    base, large = kind(preset="base"), kind(preset="large")
    assert (base.hidden_size, base.num_layers) == (4096, 24)
    assert (large.hidden_size, large.num_layers) == (8192, 48)
    shallow = kind(preset="base", num_layers=6)
    assert (shallow.hidden_size, shallow.num_layers) == (4096, 6)


def test_a_preset_written_out_is_the_same_model():
    preset = DeepseekMoeModel(preset="base")
    written = DeepseekMoeModel.model_validate(preset.model_dump() | {"preset": None, "name": "mine"})
    assert written.fingerprint() == preset.fingerprint()
    assert written.fingerprint() != DeepseekMoeModel(preset="base", seed=1).fingerprint()


@pytest.mark.parametrize(
    ("kind", "values", "line"),
    [
        (DeepseekMoeModel, {"num_groups": 3}, "num_groups: 3 does not cut num_experts: 8 .* num_groups: 2"),
        (DeepseekMoeModel, {"num_groups": 8}, "groups of two or more; the nearest is num_groups: 4"),
        (DeepseekMoeModel, {"num_experts": 1, "num_experts_per_token": 1}, "the nearest is num_experts: 2"),
        (DeepseekMoeModel, {"num_groups": 2, "topk_groups": 3}, "the nearest is topk_groups: 2"),
        (
            DeepseekMoeModel,
            {"num_groups": 4, "topk_groups": 1, "num_experts_per_token": 3},
            "more than the 2 experts of topk_groups: 1; the nearest is num_experts_per_token: 2",
        ),
        (DeepseekMoeModel, {"num_dense_layers": 4}, "the nearest is num_dense_layers: 3"),
        (DeepseekMoeModel, {"rope_head_dim": 15}, "the nearest is rope_head_dim: 16"),
        (LlamaModel, {"num_heads": 6}, "num_heads: 6 does not cut hidden_size: 256 .* num_heads: 4"),
        (LlamaModel, {"hidden_size": 255}, "the nearest is hidden_size: 256"),
        (LlamaModel, {"num_key_value_heads": 3}, "the nearest is num_key_value_heads: 2"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused_with_the_nearest_that_do(kind, values, line):
    with pytest.raises(ValidationError, match=line) as refused:
        kind.model_validate(values)
    assert len(refused.value.errors()) == 1
