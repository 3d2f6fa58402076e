"""What a model allows of a layout, and which worker holds which part of it."""

import pytest

from heliostat.errors import ConfigError
from heliostat.training.config import TrainConfig
from heliostat.training.layout_config import LayoutConfig
from heliostat.training.model_shape import Experts, ModelShape
from heliostat.training.placement import Coordinates, check_placement, coordinates, head_shares

SMOL = ModelShape("llama", 576, 1536, 30, 9, 3, 64, 49152, 8192, tied_embeddings=True)
EXPERTS = Experts(8, 2, 14336, 0, frozenset(range(32)))
MIXTRAL = ModelShape("mixtral", 4096, 14336, 32, 32, 8, 128, 32000, 32768, experts=EXPERTS)
FULL = {"kind": "full"}


def config(layout=None, adapter=FULL, **values) -> TrainConfig:
    return TrainConfig.model_validate({"layout": layout or {}, "adapter": adapter} | values)


@pytest.mark.parametrize(
    ("layout", "workers"),
    [
        ({}, 3),
        ({"tensor_parallel": 2}, 4),
        ({"tensor_parallel": 4}, 4),
        ({"pipeline_parallel": 30}, 30),
        ({"zero": {"stage": 3}}, 8),
    ],
)
def test_what_the_model_can_do_is_let_through(layout, workers):
    check_placement(config(layout, num_workers=workers), SMOL, max_sequence_length=8192)


@pytest.mark.parametrize(
    ("layout", "workers", "said"),
    [
        (
            {"tensor_parallel": 12},
            12,
            "more than the model's 9 attention heads; .* tensor_parallel: 3",
        ),
        ({"pipeline_parallel": 32}, 32, "32 stages for 30 layers .* pipeline_parallel: 30"),
        ({"expert_parallel": 2}, 2, "this llama model has none; the nearest is zero: {stage: 3}"),
    ],
)
def test_what_a_dense_model_cannot_do_is_refused_with_the_nearest(layout, workers, said):
    with pytest.raises(ConfigError, match=said) as refused:
        check_placement(config(layout, num_workers=workers), SMOL)
    assert len(str(refused.value).splitlines()) == 1
    assert str(refused.value).startswith("train.layout.")


@pytest.mark.parametrize(
    ("layout", "workers", "said"),
    [
        (
            {"tensor_parallel": 2},
            2,
            "experts or the attention of a mixtral model; the nearest is expert_parallel: 2",
        ),
        ({"pipeline_parallel": 2}, 2, "no pipeline form.*the nearest is expert_parallel"),
        ({"expert_parallel": 6}, 6, "6 does not divide the model's 8 experts.*expert_parallel: 2"),
        ({"expert_parallel": 16}, 16, "16 does not divide the model's 8 experts.*expert_parallel: 8"),
    ],
)
def test_what_a_mixture_of_experts_cannot_do_is_refused_with_the_nearest(layout, workers, said):
    with pytest.raises(ConfigError, match=said):
        check_placement(config(layout, num_workers=workers), MIXTRAL)


def test_experts_that_are_shared_evenly_are_let_through():
    check_placement(config({"expert_parallel": 4}, num_workers=8), MIXTRAL)


def test_longer_sequences_than_the_model_has_positions_are_refused():
    with pytest.raises(ConfigError, match="max_sequence_length: 8193 is more than the 8192 positions"):
        check_placement(config(), SMOL, max_sequence_length=8193)


def test_freezing_every_layer_is_refused():
    adapter = {"kind": "freeze_bottom", "num_layers": 30}
    with pytest.raises(ConfigError, match="the most is num_layers: 29"):
        check_placement(config(adapter=adapter), SMOL)
    check_placement(config(adapter=adapter | {"num_layers": 29}), SMOL)


def test_a_lora_target_that_the_model_lacks_is_named():
    adapter = {"kind": "lora", "target_modules": ["q_proj", "query"]}
    with pytest.raises(ConfigError, match="no layer called query; it has down_proj, embed_tokens"):
        check_placement(config(adapter=adapter), SMOL)


def test_key_value_heads_are_shared_as_evenly_as_whole_heads_go():
    assert head_shares(SMOL, 2) == (2, 1)
    assert head_shares(SMOL, 4) == (1, 1, 1, 0)
    assert head_shares(MIXTRAL, 4) == (2, 2, 2, 2)


@pytest.mark.parametrize(
    ("layout", "workers", "expected"),
    [
        ({}, 3, [(0, 0, 0, 0, 0), (1, 0, 0, 0, 0), (2, 0, 0, 0, 0)]),
        ({"tensor_parallel": 2}, 4, [(0, 0, 0, 0, 0), (0, 1, 0, 0, 0), (1, 0, 0, 0, 0), (1, 1, 0, 0, 0)]),
        ({"pipeline_parallel": 2}, 4, [(0, 0, 0, 0, 0), (1, 0, 0, 0, 0), (0, 0, 1, 0, 0), (1, 0, 1, 0, 0)]),
        ({"expert_parallel": 2}, 4, [(0, 0, 0, 0, 0), (1, 0, 0, 0, 1), (2, 0, 0, 0, 0), (3, 0, 0, 0, 1)]),
    ],
)
def test_where_each_rank_stands(layout, workers, expected):
    found = [coordinates(rank, LayoutConfig.model_validate(layout), workers) for rank in range(workers)]
    assert found == [Coordinates(*each) for each in expected]


@pytest.mark.heavy
@pytest.mark.parametrize(("pipeline", "tensor", "data"), [(2, 2, 2), (3, 1, 2), (1, 4, 2)])
def test_ranks_are_in_the_order_of_deepspeeds_own_topology(pipeline, tensor, data):
    from deepspeed.runtime.pipe.topology import PipeModelDataParallelTopology

    topology = PipeModelDataParallelTopology(num_pp=pipeline, num_mp=tensor, num_dp=data)
    layout = LayoutConfig(pipeline_parallel=pipeline, tensor_parallel=tensor)
    for rank in range(pipeline * tensor * data):
        theirs = topology.get_coord(rank)
        ours = coordinates(rank, layout, pipeline * tensor * data)
        assert (ours.pipeline, ours.replica, ours.tensor) == (theirs.pipe, theirs.data, theirs.model)


@pytest.mark.heavy
def test_the_expert_types_are_those_that_autoep_has_presets_for():
    from deepspeed.module_inject.auto_ep_presets.registry import PRESET_MODELS

    from heliostat.training.placement import EXPERT_TYPES

    assert {kind for preset in PRESET_MODELS.values() for kind in preset.hf_model_types} >= EXPERT_TYPES
