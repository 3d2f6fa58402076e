"""Memory that is planned for, by hand and against what torch and DeepSpeed hold."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from heliostat.training.config import TrainConfig
from heliostat.training.model_shape import Experts, ModelShape
from heliostat.training.plan_activations import Batch
from heliostat.training.plan_memory import largest, memory_of_workers
from heliostat.training.plan_parameters import shares, split_layers, trainable_parameters

SMOL = ModelShape("llama", 576, 1536, 30, 9, 3, 64, 49152, 8192, tied_embeddings=True)
LLAMA_7B = ModelShape("llama", 4096, 11008, 32, 32, 32, 128, 32000, 4096)
ONE = Batch(rows=1, length=512, labels=512)
SMOL_SIZE, LLAMA_SIZE = 134_515_008, 6_738_415_616
FULL = {"kind": "full"}


def config(layout=None, adapter=FULL, **values) -> TrainConfig:
    return TrainConfig.model_validate({"layout": layout or {}, "adapter": adapter} | values)


def test_smollm2_in_float32_takes_16_bytes_a_parameter():
    """Weights and gradients 538 MB each, Adam's two moments 1,076 MB."""
    (worker,) = memory_of_workers(config(), SMOL, ONE)
    assert worker.weights == worker.gradients == 4 * SMOL_SIZE == 538_060_032
    assert worker.optimizer == 8 * SMOL_SIZE
    assert worker.host == worker.buffers == 0


@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "optimizer"),
    [(0, 2, 2, 12), (1, 2, 2, 12 / 8), (2, 2, 2 / 8, 12 / 8), (3, 2 / 8, 2 / 8, 12 / 8)],
)
def test_zero_splits_a_llama_of_7_billion_over_8_gpus(stage, weights, gradients, optimizer):
    """Figure 1 of Rajbhandari et al.: 16 bytes a parameter, of which stage 3 leaves 16 / 8."""
    layout = {"precision": "bf16", "zero": {"stage": stage}}
    (worker,) = memory_of_workers(config(layout, num_workers=8, use_gpu=True), LLAMA_7B, ONE)
    assert LLAMA_7B.num_parameters == LLAMA_SIZE
    assert worker.weights == pytest.approx(weights * LLAMA_SIZE, abs=16)
    assert worker.gradients == pytest.approx(gradients * LLAMA_SIZE, abs=16)
    assert worker.optimizer == pytest.approx(optimizer * LLAMA_SIZE, abs=16)


def test_offloading_moves_the_optimizer_to_the_host():
    layout = {"precision": "bf16", "zero": {"stage": 3, "offload_optimizer": True}}
    (worker,) = memory_of_workers(config(layout, num_workers=8, use_gpu=True), LLAMA_7B, ONE)
    assert (worker.optimizer, worker.gradients) == (0, 0)
    assert worker.host == pytest.approx(16 * LLAMA_SIZE / 8, abs=64)  # with float32 gradients


def test_buckets_are_reserved_whole_on_gpus_only():
    """Fifty million numbers, two buckets: 0.2 GB in bf16, whatever the model's size."""
    layout = {"precision": "bf16", "zero": {"stage": 2}}
    assert memory_of_workers(config(layout, use_gpu=True), SMOL, ONE)[0].buffers == 200_000_000
    assert memory_of_workers(config(layout), SMOL, ONE)[0].buffers == 0


def test_lora_has_gradients_and_moments_for_its_own_parameters_only():
    """r = 16 on q_proj (576 -> 576) and v_proj (576 -> 192) of 30 layers."""
    lora = {"kind": "lora", "r": 16, "target_modules": ["q_proj", "v_proj"]}
    own = 30 * 16 * ((576 + 576) + (576 + 192))
    train = config(adapter=lora)
    assert trainable_parameters(train.adapter, SMOL) == own == 921_600
    (worker,) = memory_of_workers(train, SMOL, ONE)
    assert worker.weights == 4 * (SMOL_SIZE + own)
    assert (worker.gradients, worker.optimizer) == (4 * own, 8 * own)


def test_added_tokens_and_dora_add_what_they_train():
    lora = {"kind": "lora", "r": 1, "target_modules": ["v_proj"], "use_dora": True}
    adapter = config(adapter=lora).adapter
    assert trainable_parameters(adapter, SMOL) == 30 * (576 + 192 + 192)
    assert trainable_parameters(adapter, SMOL, added_tokens=2) == 30 * (576 + 192 + 192) + 2 * 576


def test_frozen_layers_have_neither_gradients_nor_activations():
    frozen = config(adapter={"kind": "freeze_bottom", "num_layers": 20})
    layer = 2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536 + 2 * 576
    assert trainable_parameters(frozen.adapter, SMOL) == 10 * layer + 576
    (some,), (all_,) = memory_of_workers(frozen, SMOL, ONE), memory_of_workers(config(), SMOL, ONE)
    assert some.gradients == 4 * (10 * layer + 576)
    assert some.activations * 3 == all_.activations


def test_tensor_parallel_halves_the_matrices_and_copies_the_rest():
    train = config({"tensor_parallel": 2}, num_workers=2)
    (share,) = shares(train, LLAMA_7B)
    table, norms = 32000 * 4096, 65 * 4096
    assert share.dense == (LLAMA_SIZE - table - norms) // 2 + table + norms


def test_pipeline_stages_hold_all_layers_between_them_evenly():
    stages = split_layers(LLAMA_7B, 4)
    assert [layer for stage in stages for layer in stage] == list(range(32))
    assert {len(stage) for stage in stages} == {8}
    held = shares(config({"pipeline_parallel": 4}, num_workers=4), LLAMA_7B)
    assert sum(share.dense for share in held) == LLAMA_SIZE
    assert [len(stage) for stage in split_layers(SMOL, 30)] == [1] * 30


def test_the_first_stage_keeps_as_many_micro_batches_as_are_under_way():
    layout = {"pipeline_parallel": 2}
    train = config(layout, num_workers=2, gradient_accumulation_steps=8)
    first, last = memory_of_workers(train, LLAMA_7B, ONE)
    assert first.activations == 2 * last.activations
    assert first.transients["logits"] == 0 < last.transients["logits"]
    assert largest((first, last)) in (first, last)


def test_experts_are_split_over_fewer_workers_than_the_rest():
    """Pairs of four workers share them: stage 2 splits the dense part by 4, each half of the experts by 2."""
    experts = Experts(8, 2, 14336, 0, frozenset(range(32)))
    mixtral = ModelShape("mixtral", 4096, 14336, 32, 32, 8, 128, 32000, 32768, experts=experts)
    train = config({"expert_parallel": 2, "zero": {"stage": 2}}, num_workers=4)
    (worker,) = memory_of_workers(train, mixtral, ONE)
    of_experts = 32 * 8 * 3 * 4096 * 14336
    dense = mixtral.num_parameters - of_experts
    assert worker.weights == 4 * (dense + of_experts // 2)
    assert worker.gradients == 4 * (dense // 4 + of_experts // 2 // 2)


@pytest.fixture(scope="module")
def held_after_a_step() -> dict[tuple[str, str], tuple[int, int]]:
    """By ZeRO stage and precision: a small model's parameters, and the bytes that live after a real step."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = Path(__file__).with_name("held_after_a_step.py")
    done = subprocess.run([sys.executable, str(script), str(port)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("HELD")]
    return {(stage, precision): (int(size), int(held)) for _, stage, precision, size, held in lines}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_deepspeed_holds_after_a_step_what_is_planned(held_after_a_step, stage, precision):
    """One worker. After a step stage 3 keeps the gradients' room, 1 and 2 that of one matrix, 0 nothing."""
    size, held = held_after_a_step[str(stage), precision]
    shape = ModelShape("llama", 128, 352, 4, 4, 4, 32, 2000, 2048)
    assert shape.num_parameters == size
    layout = {"zero": {"stage": stage}, "precision": precision}
    (worker,) = memory_of_workers(config(layout), shape, Batch(1, 8, 8))
    table = worker.weights * 2000 * 128 // size
    room = {0: 0, 1: table, 2: table, 3: worker.gradients}[stage]
    assert held == pytest.approx(worker.weights + worker.optimizer + room, rel=0.01)


MEASURE = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM

def resident():
    with open("/proc/self/statm") as lines:
        return int(lines.read().split()[1]) * 4096

def step(sizes):
    model = LlamaForCausalLM(LlamaConfig(**sizes))
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    ids = torch.arange(8)[None]
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    optimizer.step()
    return model, optimizer

small = dict(vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
kept = step(small)  # loads what the first step loads
before = resident()
sizes = dict(vocab_size=8000, hidden_size=512, intermediate_size=1408)
sizes |= dict(num_hidden_layers=6, num_attention_heads=8)
also = step(sizes)
print(also[0].num_parameters(), resident() - before)
"""


@pytest.mark.slow
def test_a_trained_model_is_resident_as_planned():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    size, resident = map(int, done.stdout.split())
    shape = ModelShape("llama", 512, 1408, 6, 8, 8, 64, 8000, 2048)
    assert shape.num_parameters == size
    (worker,) = memory_of_workers(config(), shape, Batch(1, 8, 8))
    assert resident == pytest.approx(worker.weights + worker.gradients + worker.optimizer, rel=0.05)
