"""What does not go together is refused from the config alone, in one line, with the nearest that does."""

import pytest
from pydantic import ValidationError

from heliostat.training.config import TrainConfig
from heliostat.training.layout import deepspeed_config

FULL = {"kind": "full"}


def zero(stage, **more):
    return {"zero": {"stage": stage, **more}}


REFUSED = [
    (
        {"layout": zero(0, offload_optimizer=True)},
        "offload_optimizer needs a stage that splits the optimizer's state; set stage: 1",
    ),
    ({"layout": zero(2, offload_parameters=True)}, "offload_parameters needs stage: 3, got stage: 2"),
    ({"layout": zero(3, nvme_path="/nvme")}, "add offload_optimizer: true"),
    (
        {"layout": zero(2, offload_optimizer=True, nvme_path="/nvme")},
        "nvme_path needs stage: 3, got stage: 2; without it, stage 2 offloads to memory",
    ),
    (
        {"adapter": FULL, "num_workers": 2, "layout": {"pipeline_parallel": 2, **zero(2)}},
        "the nearest is zero.stage: 1",
    ),
    (
        {"adapter": FULL, "num_workers": 2, "layout": {"tensor_parallel": 2, **zero(3)}},
        "the nearest is zero.stage: 2",
    ),
    (
        {
            "adapter": FULL,
            "num_workers": 2,
            "layout": {"pipeline_parallel": 2, **zero(1, offload_optimizer=True)},
        },
        "offload_optimizer does not work with pipeline_parallel; leave one of them out",
    ),
    (
        {"adapter": FULL, "num_workers": 4, "layout": {"expert_parallel": 2, "tensor_parallel": 2}},
        "expert_parallel works with data parallel only, not with tensor_parallel; set tensor_parallel: 1",
    ),
    (
        {"adapter": FULL, "num_workers": 4, "layout": {"expert_parallel": 2, "pipeline_parallel": 2}},
        "set pipeline_parallel: 1",
    ),
    (
        {"adapter": FULL, "num_workers": 2, "layout": {"expert_parallel": 2, **zero(3)}},
        "expert_parallel splits the experts already; the nearest is zero.stage: 2",
    ),
    (
        {"adapter": FULL, "num_workers": 4, "layout": {"sequence_parallel": 2, "tensor_parallel": 2}},
        "sequence_parallel works with data parallel and ZeRO only; the nearest is zero: {stage: 3}",
    ),
    (
        {"adapter": FULL, "num_workers": 3, "layout": {"sequence_parallel": 2}},
        "(sequence_parallel: 2); the nearest is num_workers: 4",
    ),
    (
        {"objective": {"kind": "dpo"}, "num_workers": 2, "layout": {"sequence_parallel": 2}},
        "objective dpo looks at whole rows, and sequence_parallel cuts them; the nearest is "
        "activation_checkpointing: true",
    ),
    (
        {"adapter": {"kind": "prompt_tuning"}, "num_workers": 2, "layout": {"sequence_parallel": 2}},
        "adapter prompt_tuning puts tokens in front of a row, and sequence_parallel cuts rows; the nearest "
        "is lora",
    ),
    (
        {"adapter": FULL, "num_workers": 3, "layout": {"tensor_parallel": 2}},
        "num_workers: 3 is no multiple of the 2 workers that one copy of the model takes "
        "(tensor_parallel: 2); the nearest is num_workers: 4",
    ),
    (
        {"adapter": FULL, "num_workers": 6, "layout": {"expert_parallel": 4}},
        "expert_parallel: 4 does not divide num_workers: 6; the nearest is expert_parallel: 3",
    ),
    (
        {"adapter": FULL, "num_workers": [2, 4], "layout": {"tensor_parallel": 2}},
        "which a layout that splits the model cannot follow; set num_workers: 4",
    ),
    ({"num_workers": [4, 2]}, "num_workers: [4, 2] has the most before the least; swap them"),
    (
        {"use_gpu": True, "layout": {"precision": "fp16"}},
        "precision: fp16 needs a loss scale, which DeepSpeed applies where it splits the optimizer's state; "
        "the nearest is zero.stage: 1, or precision: bf16",
    ),
    (
        {"adapter": {"kind": "prefix_tuning"}, "layout": {"activation_checkpointing": True}},
        "adapter prefix_tuning puts keys in front of a row, which activation_checkpointing forgets",
    ),
    (
        {"adapter": FULL, "num_workers": [2, 4], "layout": {"expert_parallel": 2}},
        "which a layout that splits the model cannot follow; set num_workers: 4",
    ),
    (
        {"adapter": FULL, "num_workers": 4, "layout": {"expert_parallel": 2, "sequence_parallel": 2}},
        "set sequence_parallel: 1",
    ),
    (
        {"adapter": FULL, "num_workers": 4, "layout": {"sequence_parallel": 2, "pipeline_parallel": 2}},
        "sequence_parallel works with data parallel and ZeRO only; the nearest is zero: {stage: 3}",
    ),
    (
        {"adapter": FULL, "num_workers": 2, "layout": {"precision": "fp8", "tensor_parallel": 2}},
        "with tensor_parallel: 1",
    ),
    (
        {"layout": {"precision": "fp16", **zero(1)}},
        "layout.precision: fp16 needs GPUs (use_gpu: true); on CPU the nearest is bf16",
    ),
    (
        {"layout": {"precision": "fp8", **zero(3)}},
        "precision: fp8 works on whole matrices, which tensor_parallel and zero.stage: 3 split; the nearest "
        "is zero.stage: 2",
    ),
    (
        {"adapter": FULL, "objective": {"kind": "dpo"}, "num_workers": 2, "layout": {"pipeline_parallel": 2}},
        "objective dpo needs the whole model in one pass, and pipeline_parallel cuts it; the nearest is "
        "tensor_parallel",
    ),
    (
        {"adapter": {"kind": "lora"}, "num_workers": 2, "layout": {"tensor_parallel": 2}},
        "adapter lora works with data parallel and ZeRO only; the nearest is layout: {zero: {stage: 3}}",
    ),
    (
        {"adapter": {"kind": "prefix_tuning"}, "objective": {"kind": "dpo"}},
        "objective dpo does not work with adapter prefix_tuning; use lora",
    ),
    (
        {"global_batch_size": 9, "num_workers": 2, "micro_batch_size": 2},
        "global_batch_size: 9 cannot be cut into micro batches of 2 for 2 replica(s); the nearest is "
        "global_batch_size: 8",
    ),
    (
        {"global_batch_size": 12, "num_workers": 2, "micro_batch_size": 4},
        "the nearest is micro_batch_size: 3, or global_batch_size: 16",
    ),
    (
        {"global_batch_size": 8, "num_workers": 2, "micro_batch_size": 2, "gradient_accumulation_steps": 3},
        "global_batch_size: 8 is not micro_batch_size 2 x gradient_accumulation_steps 3 x 2 replica(s) = 12; "
        "leave gradient_accumulation_steps out to have it computed",
    ),
    ({"objective": {"kind": "dpo", "gamma": 1.0}}, "add reference_free: true"),
]


@pytest.mark.parametrize(("values", "words"), REFUSED, ids=[words[:60] for _, words in REFUSED])
def test_what_does_not_go_together_is_refused_in_one_line_with_a_way_out(values, words):
    with pytest.raises(ValidationError) as refused:
        TrainConfig.model_validate(values)
    (problem,) = refused.value.errors()
    assert words in problem["msg"]
    assert "\n" not in problem["msg"]


def test_the_global_batch_stays_the_same_however_many_workers_cut_it():
    said = TrainConfig(global_batch_size=24, num_workers=2, micro_batch_size=3)
    assert said.micro_batches(2) == 4
    for workers in (1, 2, 4, 8):
        config = TrainConfig(global_batch_size=24, num_workers=workers, micro_batch_size=3)
        assert config.fingerprint() == said.fingerprint()
        assert deepspeed_config(config)["gradient_accumulation_steps"] == 8 // workers


def test_an_elastic_run_has_the_global_batch_of_its_most_workers():
    config = TrainConfig(num_workers=[1, 4], micro_batch_size=2, gradient_accumulation_steps=3)
    assert config.sequences_per_step == 24
    assert [config.micro_batches(workers) for workers in (1, 2, 3, 4)] == [12, 6, 4, 3]


def test_what_is_offloaded_goes_to_memory_or_to_the_folder_named():
    memory = TrainConfig(layout=zero(3, offload_optimizer=True, offload_parameters=True))
    assert deepspeed_config(memory)["zero_optimization"]["offload_param"] == {"device": "cpu"}
    assert deepspeed_config(memory)["optimizer"]["params"]["torch_adam"] is False
    disk = TrainConfig(layout=zero(3, offload_optimizer=True, nvme_path="/nvme"))
    place = {"device": "nvme", "nvme_path": "/nvme"}
    assert deepspeed_config(disk)["zero_optimization"]["offload_optimizer"] == place


def test_fp16_starts_at_a_loss_scale_of_two_to_the_fifteenth():
    config = TrainConfig(use_gpu=True, layout={"precision": "fp16", **zero(1)})
    assert deepspeed_config(config)["fp16"] == {"enabled": True, "initial_scale_power": 15}
