"""Adapters merged into their base: the sum of their changes, and only where they belong together."""

import json
import shutil

import pytest
from small_artifacts import publish_dataset, publish_model

from heliostat.compression.config import MergeConfig, WeightedAdapter
from heliostat.compression.merging import STEPS, check_base, merge_steps, open_adapters
from heliostat.compression.run import compress_model
from heliostat.errors import ArtifactError, ConfigError
from heliostat.models.loading import load_model
from heliostat.storage import artifact_folder, publish, staging
from heliostat.workspace import key_of

pytestmark = pytest.mark.heavy


def make_adapter(folder, model_folder, seed, **changes):
    """A LoRA adapter whose factors are no zeros."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]} | changes)
    model = get_peft_model(load_model(model_folder), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    model.save_pretrained(folder)
    return folder


def publish_adapter(workspace, model_folder, base, seed, **changes):
    key = key_of(str(seed), json.dumps(changes))
    with staging(workspace.storage, workspace.path("adapter", "tiny", key)) as publication:
        make_adapter(publication.folder, model_folder, seed, **changes)
        return publish(publication, "adapter", key, {}, (base,))


def weights(folder):
    return load_model(folder).state_dict()


def change(base_folder, adapter_folder):
    from heliostat.models.adapters import load_with_adapter

    merged = load_with_adapter(base_folder, adapter_folder).merge_and_unload().state_dict()
    return {name: tensor - weights(base_folder)[name] for name, tensor in merged.items()}


def test_linear_adds_up_what_adapters_change(tmp_path, tiny_model_folder):
    import torch

    folders = [
        make_adapter(tmp_path / "a", tiny_model_folder, 1),
        make_adapter(tmp_path / "b", tiny_model_folder, 2, r=2, target_modules=["q_proj", "down_proj"]),
    ]
    parts = [WeightedAdapter(adapter="a", weight=0.5), WeightedAdapter(adapter="b", weight=2)]
    steps = merge_steps(tiny_model_folder, tmp_path / "out", MergeConfig(adapters=parts), folders)
    assert list(steps) == list(STEPS)
    before, changes = weights(tiny_model_folder), [change(tiny_model_folder, each) for each in folders]
    for name, tensor in weights(tmp_path / "out").items():
        wanted = before[name] + 0.5 * changes[0][name] + 2 * changes[1][name]
        assert torch.allclose(tensor, wanted, atol=1e-6), name


@pytest.mark.parametrize("method", ["ties", "dare_linear", "dare_ties"])
def test_other_methods_change_the_model_and_always_alike(tmp_path, tiny_model_folder, method):
    import torch

    folders = [make_adapter(tmp_path / str(seed), tiny_model_folder, seed) for seed in (1, 2)]
    parts = [WeightedAdapter(adapter="-"), WeightedAdapter(adapter="-")]
    config = MergeConfig(adapters=parts, method=method)
    for name in ("once", "again"):
        list(merge_steps(tiny_model_folder, tmp_path / name, config, folders))
    once, again, before = (
        weights(each) for each in (tmp_path / "once", tmp_path / "again", tiny_model_folder)
    )
    name = "model.layers.0.self_attn.q_proj.weight"
    assert all(torch.equal(once[each], again[each]) for each in once)
    assert not torch.equal(once[name], before[name])


def test_adapters_of_other_bases_or_shapes_are_one_line(workspace, tiny_model_folder, tmp_path):
    import torch

    base = publish_model(workspace, tiny_model_folder)
    other_folder = shutil.copytree(tiny_model_folder, tmp_path / "other")
    model = load_model(other_folder)
    with torch.no_grad():
        model.lm_head.weight += 1
    model.save_pretrained(other_folder)
    other = publish_model(workspace, other_folder, "other")
    own = publish_adapter(workspace, tiny_model_folder, base, 1)
    strange = publish_adapter(workspace, other_folder, other, 2)
    wide = publish_adapter(workspace, tiny_model_folder, base, 3, r=8)

    def opened(*adapters, **changes):
        parts = [WeightedAdapter(adapter=adapter.uri) for adapter in adapters]
        return open_adapters(MergeConfig(adapters=parts, **changes))

    assert opened(own, wide) == (own, wide)
    for adapters, changes, complaint in (
        ((own, strange), {}, f"is an adapter of {other.id}, and .* one of {base.id}"),
        ((own, wide), {"method": "ties"}, "rank 8 where .* has 4, which method ties cannot combine"),
    ):
        with pytest.raises(ConfigError, match=complaint) as caught:
            opened(*adapters, **changes)
        assert "\n" not in str(caught.value)
    check_base((own,), base)
    with pytest.raises(ConfigError, match=f"is an adapter of {base.id}, not of {other.id}"):
        check_base((own,), other)
    with pytest.raises(ArtifactError, match="is a model artifact, expected adapter"):
        opened(base)


@pytest.mark.ray
@pytest.mark.slow
def test_a_merged_model_is_published_with_its_parents(ray_cluster, workspace, tiny_model_folder):
    base = publish_model(workspace, tiny_model_folder)
    dataset = publish_dataset(workspace, tiny_model_folder)
    adapters = [publish_adapter(workspace, tiny_model_folder, base, seed) for seed in (1, 2)]
    config = MergeConfig(
        adapters=[{"adapter": each.uri, "weight": 0.5} for each in adapters], max_tokens=600, max_loss=0.5
    )
    merged = compress_model(config, base, dataset, workspace)
    assert (merged.kind, merged.facts["scheme"]) == ("model", "merged-linear")
    assert merged.parents == (base.id, dataset.id, *(each.id for each in adapters))
    assert merged.facts["num_parameters"] == 150_848
    load_model(artifact_folder(merged))
