"""What pruning leaves: the sizes asked for, in a folder that transformers loads, and little lost."""

import json

import numpy as np
import pytest
from small_models import small_llama

from heliostat.compression.config import PruneConfig
from heliostat.compression.pruned_export import STEPS, plan_for, prune_steps
from heliostat.compression.pruning import block_influence, refitted, removable
from heliostat.compression.pruning_plan import Shape, plan_pruning
from heliostat.compression.steps import Partly
from heliostat.errors import ModelError
from heliostat.models.loading import load_model, model_facts

SMOLLM2 = Shape(576, 1536, 30, 9, 3, 64, 49152, True, False, False)


def documents(count=12):
    return [np.arange(3 + number, 60 + number) for number in range(count)]


@pytest.mark.parametrize(
    ("keep", "layers", "groups"), [(0.8, 0, 0), (0.8, 4, 0), (0.8, 0, 1), (0.5, 6, 1), (0.97, 0, 0)]
)
def test_a_plan_keeps_no_more_than_the_share_and_hardly_less(keep, layers, groups):
    config = PruneConfig(keep=keep, remove_layers=layers, remove_head_groups=groups)
    plan = plan_pruning(config, SMOLLM2)
    whole = SMOLLM2.num_parameters(30, 3, 1536)
    assert whole == 134_515_008
    assert (plan.num_layers, plan.num_groups) == (30 - layers, 3 - groups)
    assert plan.channels % 32 == 0
    assert keep - 0.0125 < plan.num_parameters / whole <= keep


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"remove_layers": 30}, "remove_layers: 30 of 30 leaves none; take at most 29"),
        ({"remove_head_groups": 3}, "remove_head_groups: 3 of 3 leaves none; take at most 2"),
        ({"keep": 0.4}, "keep: 0.4 of 134,515,008 parameters would leave .* of 1536 channels; raise keep"),
    ],
)
def test_what_cannot_go_is_one_line(changes, complaint):
    with pytest.raises(ModelError, match=complaint):
        plan_pruning(PruneConfig(**changes), SMOLLM2)


def test_the_input_that_others_can_stand_in_for_goes_first():
    random = np.random.default_rng(0)
    inputs = random.normal(size=(200, 6))
    inputs[:, 4] = inputs[:, 1] + inputs[:, 2]  # large, and no loss at all
    inputs[:, 0] *= 1e-3
    weight = random.normal(size=(3, 6))
    gram = inputs.T @ inputs + 1e-9 * np.eye(6)
    kept = removable(gram, weight, num_kept=4)
    assert 0 not in kept
    assert len({1, 2, 4} - set(kept)) == 1
    outputs = inputs @ weight.T
    again = refitted(gram, outputs.T @ inputs, weight, kept)
    rest = np.abs(inputs[:, kept] @ again.T - outputs).max()
    assert rest < 0.1 * np.abs(outputs - inputs[:, kept] @ weight[:, kept].T).max()


def test_blocks_go_whole():
    random = np.random.default_rng(0)
    inputs = random.normal(size=(100, 8)) * np.repeat([1, 0.01, 1, 1], 2)
    kept = removable(inputs.T @ inputs, random.normal(size=(5, 8)), num_kept=3, width=2)
    assert kept.tolist() == [0, 1, 4, 5, 6, 7]


@pytest.mark.heavy
@pytest.mark.parametrize(
    "changes",
    [{}, {"remove_layers": 1}, {"remove_head_groups": 1}, {"remove_layers": 1, "keep": 0.7}],
    ids=str,
)
def test_a_pruned_folder_is_a_model_of_the_size_asked_for(tmp_path, changes):
    whole = small_llama(tmp_path, num_hidden_layers=3)
    (tmp_path / "out").mkdir()
    config = PruneConfig(**{"keep": 0.8, **changes})
    plan = plan_for(config, whole)
    said = list(prune_steps(whole, tmp_path / "out", config, documents()))
    assert [each for each in said if isinstance(each, str)] == list(STEPS)
    shares = [each.share for each in said if isinstance(each, Partly)]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert model_facts(tmp_path / "out").num_parameters == plan.num_parameters
    said = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (said["num_hidden_layers"], said["num_key_value_heads"]) == (plan.num_layers, plan.num_groups)
    assert said["intermediate_size"] == plan.channels
    model = load_model(tmp_path / "out")
    assert sum(parameter.numel() for parameter in model.parameters()) == plan.num_parameters


@pytest.mark.heavy
def test_refitting_comes_nearer_to_the_whole_model_than_taking_channels_out(tmp_path):
    import torch

    whole = small_llama(tmp_path, initializer_range=0.2)
    (tmp_path / "out").mkdir()
    config = PruneConfig(keep=0.8)
    list(prune_steps(whole, tmp_path / "out", config, documents(40)))
    before, after = load_model(whole), load_model(tmp_path / "out")
    cut = load_model(whole)
    for layer in cut.model.layers:
        norms = layer.mlp.down_proj.weight.norm(dim=0)
        gone = norms.argsort()[: len(norms) - plan_for(config, whole).channels]
        layer.mlp.down_proj.weight.data[:, gone] = 0
    ids = torch.from_numpy(documents(3)[2])[None]
    with torch.inference_mode():
        wanted = before(ids).logits
        errors = [float((model(ids).logits - wanted).norm()) for model in (after, cut)]
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.heavy
def test_a_layer_that_does_nothing_goes_first(tmp_path):
    import torch

    model = load_model(small_llama(tmp_path, num_hidden_layers=3))
    with torch.no_grad():
        for matrix in (model.model.layers[1].self_attn.o_proj, model.model.layers[1].mlp.down_proj):
            matrix.weight.zero_()
        influence = block_influence(model, documents(4))
    assert influence.argmin() == 1
    assert abs(influence[1]) < 1e-5


def test_an_unknown_family_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(ModelError, match=r"config\.json: model_type 'mamba' cannot be pruned here") as caught:
        plan_for(PruneConfig(), tmp_path)
    assert "\n" not in str(caught.value)


def test_sizes_of_all_known_families_are_counted(tmp_path):
    import torch
    import transformers

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "vocab_size": 99, "head_dim": 16, "pad_token_id": 0}
    for name in ("Llama", "Mistral", "Qwen2", "Qwen3"):
        config = getattr(transformers, f"{name}Config")(**sizes)
        with torch.device("meta"):
            model = getattr(transformers, f"{name}ForCausalLM")(config)
        shape = Shape.of(config.to_dict())
        assert shape.num_parameters(2, 2, 48) == sum(each.numel() for each in model.parameters()), name
