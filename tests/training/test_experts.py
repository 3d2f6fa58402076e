"""Tokens per expert in real mixtures of experts, made on the spot."""

import pytest
import torch

from heliostat.training.experts import ExpertLoad

pytestmark = pytest.mark.heavy
LAYERS, EXPERTS, TAKEN = 2, 8, 2


def build(kind: str):
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {
        "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 2,
        "num_key_value_heads": 2, "intermediate_size": 32, "moe_intermediate_size": 32,
        "num_experts_per_tok": TAKEN,
    }  # fmt: skip
    more = {
        "deepseek_v3": {
            "n_routed_experts": EXPERTS, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 0,
            "kv_lora_rank": 8, "q_lora_rank": None, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8,
            "v_head_dim": 16, "num_mtp_layers": 0,
        },
        "mixtral": {"num_local_experts": EXPERTS},
        "qwen3_moe": {"num_experts": EXPERTS, "head_dim": 16},
        "llama": {},
    }[kind]  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape | more)).train()


IDS = torch.arange(128).reshape(4, 32) % 64


def step(model) -> None:
    model(IDS, labels=IDS, use_cache=False).loss.backward()


def counts_of(load: ExpertLoad) -> torch.Tensor:
    seen = []
    load.metrics(lambda tensor: seen.append(tensor.clone()))
    return seen[0]


@pytest.mark.parametrize("kind", ["deepseek_v3", "mixtral", "qwen3_moe"])
def test_every_token_is_counted_once_for_each_expert_it_takes(kind):
    model = build(kind)
    load = ExpertLoad.attach(model)
    step(model)
    counts = counts_of(load)
    assert counts.shape == (LAYERS, EXPERTS)
    assert counts.sum(dim=1).tolist() == [IDS.numel() * TAKEN] * LAYERS
    assert counts_of(load).sum() == 0


def test_padding_does_not_count():
    model, padding = build("deepseek_v3"), torch.zeros(IDS.shape, dtype=torch.bool)
    padding[1, 20:] = True
    load = ExpertLoad.attach(model, lambda: padding)
    step(model)
    assert counts_of(load).sum(dim=1).tolist() == [(IDS.numel() - 12) * TAKEN] * LAYERS


def test_a_batch_that_only_keeps_others_company_does_not_count():
    model, counts = build("deepseek_v3"), [True, False]
    load = ExpertLoad.attach(model, counts=lambda: counts.pop(0))
    step(model)
    step(model)
    assert counts_of(load).sum(dim=1).tolist() == [IDS.numel() * TAKEN] * LAYERS


def test_the_router_of_expert_parallel_layers_is_counted_and_balanced_too():
    from deepspeed.moe.ep_router import TokenChoiceTopKRouter

    router = TokenChoiceTopKRouter(32, EXPERTS, None, None, TAKEN, "sigmoid", True, 1.0, False)
    router.e_score_correction_bias = torch.zeros(EXPERTS)
    model = torch.nn.Sequential(router).train()
    load = ExpertLoad.attach(model)
    model(torch.randn(50, 32))
    counts = counts_of(load)
    assert counts.sum().item() == 50 * TAKEN
    load.balance(0.5)
    wanted = 0.5 * (50 * TAKEN / EXPERTS - counts[0]).sign()
    torch.testing.assert_close(router.e_score_correction_bias, wanted.float())


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_checkpointing_computes_again_is_not_counted_again(reentrant):
    model = build("deepseek_v3")
    load = ExpertLoad.attach(model)
    step(model)
    plain = counts_of(load)
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    step(model)
    assert torch.equal(counts_of(load), plain)


def test_evaluation_is_not_counted_and_neither_is_anything_after_detach():
    model = build("deepseek_v3")
    load = ExpertLoad.attach(model)
    model.eval()(IDS)
    assert counts_of(load).sum() == 0
    load.detach()
    step(model.train())
    assert counts_of(load).sum() == 0


def test_a_model_without_experts_has_no_load():
    assert ExpertLoad.attach(build("llama")) is None


def test_an_even_spread_has_entropy_1_and_one_expert_for_all_has_its_ratio():
    load = ExpertLoad.attach(build("deepseek_v3"))
    even = load.metrics(lambda counts: counts.fill_(5))
    assert even == pytest.approx({"expert_load_max_ratio": 1.0, "expert_entropy": 1.0, "dropped_tokens": 0.0})

    def all_to_one(counts):
        counts[:, 3] = 40

    assert load.metrics(all_to_one)["expert_load_max_ratio"] == pytest.approx(EXPERTS)
    assert load.metrics(all_to_one)["expert_entropy"] == pytest.approx(0.0, abs=1e-9)


def test_balancing_by_the_loads_of_all_workers_lifts_who_got_little_and_keeps_float32():
    model = build("deepseek_v3").to(torch.bfloat16)
    load = ExpertLoad.attach(model)

    def others(counts):
        counts.fill_(10)
        counts[:, 0], counts[:, 1] = 20, 0

    assert load.balance() is False
    load.metrics(others)
    for _ in range(3):
        assert load.balance(rate=1e-3) is True
    bias = model.model.layers[1].mlp.gate.e_score_correction_bias
    assert bias.dtype == torch.float32
    torch.testing.assert_close(bias[:3], torch.tensor([-0.003, 0.003, 0.0]))
    step(model)


def test_balancing_evens_out_a_router_that_is_off_balance():
    model = build("deepseek_v3")
    load = ExpertLoad.attach(model)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.gate.e_score_correction_bias[0] = 0.5

    turns = []
    for _ in range(200):
        with torch.no_grad():
            model(IDS, use_cache=False)
        turns.append(load.metrics())
        load.balance(rate=0.005)  # at 0.02 the loads swing to and fro
    first, last = turns[0], turns[-1]
    assert first["expert_load_max_ratio"] > 3
    assert last["expert_load_max_ratio"] < 2
    assert first["expert_entropy"] < 0.7
    assert last["expert_entropy"] > 0.93


def test_routers_without_a_bias_are_left_alone():
    model = build("mixtral")
    load = ExpertLoad.attach(model)
    step(model)
    load.metrics()
    assert load.balance() is False
