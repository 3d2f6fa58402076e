import time
from dataclasses import replace

import pytest

from heliostat.training.hardware import (
    ModelShape,
    ProcessUsage,
    measured_peak,
    memory_share,
    model_flops_utilization,
    shape_of,
)

GIB = 1 << 30


def test_a_process_that_computes_is_seen_to_use_a_core_and_one_that_waits_none():
    usage = ProcessUsage()
    deadline = time.perf_counter() + 0.3
    while time.perf_counter() < deadline:
        pass
    busy = usage.metrics()
    time.sleep(0.3)
    waiting = usage.metrics()
    assert waiting["cpu_cores_used"] < busy["cpu_cores_used"] <= 1.2
    assert busy["memory_bytes"] > 10e6
    assert 0 < busy["memory_share"] < 1
    assert not any(name.startswith("gpu") for name in busy)


def test_a_containers_limit_counts_without_its_file_cache(tmp_path):
    (tmp_path / "memory.max").write_text(f"{2 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{2 * GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 7\ninactive_file {GIB // 50}\n")
    assert memory_share(tmp_path) == pytest.approx(0.99)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_share(tmp_path) == pytest.approx(memory_share(tmp_path / "none"), abs=0.1)


def test_training_all_of_palms_parameters_costs_what_its_paper_says():
    """Appendix B, for PaLM 540B: 118 layers of 48 heads of 256, sequences of 2,048 tokens."""
    shape = ModelShape(540_350_000_000, 540_350_000_000, num_layers=118, attention_size=48 * 256)
    parameters = 6 * 540.35e9
    assert shape.flops_per_token(2048) == pytest.approx(parameters + 12 * 118 * 48 * 256 * 2048)
    # 238.3 thousand tokens a second on 6,144 chips of 275 TFLOP/s: 45.7 % without attention, 46.2 % with it.
    peaks = 6144 * 275e12
    assert model_flops_utilization(shape, 238_300, 0, peaks) == pytest.approx(0.457, abs=0.001)
    assert model_flops_utilization(shape, 238_300, 2048, peaks) == pytest.approx(0.462, abs=0.001)


def test_frozen_weights_cost_two_thirds():
    trained = ModelShape(1000, 1000, num_layers=2, attention_size=8)
    frozen = replace(trained, num_trained=0)
    assert frozen.flops_per_token(0) / trained.flops_per_token(0) == pytest.approx(2 / 3)


def test_a_models_shape_leaves_out_the_table_that_tokens_are_looked_up_in(tiny_model_folder):
    from heliostat.models.loading import load_model
    from heliostat.training.adapters import apply_adapter
    from heliostat.training.config import LoraAdapter

    model = load_model(tiny_model_folder)
    every = sum(parameter.numel() for parameter in model.parameters())
    table = model.get_input_embeddings().weight.numel()
    shape = shape_of(model)
    assert shape == ModelShape(every - table, every - table, num_layers=2, attention_size=64)
    lora = shape_of(apply_adapter(model, LoraAdapter(r=4)))
    assert lora.num_trained == 2 * (4 * (64 + 64) + 4 * (64 + 32))
    assert lora.num_parameters == shape.num_parameters + lora.num_trained


@pytest.mark.heavy  # imports torch
def test_a_token_meets_only_the_experts_it_is_sent_to():
    from transformers import MixtralConfig, MixtralForCausalLM

    size = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    shapes = [
        shape_of(
            MixtralForCausalLM(MixtralConfig(**size, **heads, num_local_experts=n, num_experts_per_tok=2))
        )
        for n in (2, 8)
    ]
    router = 2 * 16 * 6  # the only part that grows
    assert shapes[1].num_parameters - shapes[0].num_parameters == router


@pytest.mark.heavy  # imports torch
def test_the_peak_is_what_a_matrix_product_reaches_and_is_measured_once():
    peak = measured_peak(seconds=0.05)
    assert 1e8 < peak < 1e14
    started = time.process_time()
    assert measured_peak(seconds=0.05) == peak
    assert time.process_time() - started < 0.01
