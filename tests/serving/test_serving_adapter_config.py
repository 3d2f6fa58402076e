"""Which adapters a recipe may name, and what they are: found, or refused before anything starts."""

import json
import shutil

import pytest
from pydantic import ValidationError
from tests.serving.test_serving_deploy import publish_quantized
from tests.small_artifacts import publish_adapter, publish_model

from heliostat.errors import ConfigError
from heliostat.models.importing import import_adapter
from heliostat.serving.adapters import open_adapters, served_adapters
from heliostat.serving.config import (
    OpenVINOEngineConfig,
    ServeConfig,
    TransformersEngineConfig,
    VLLMEngineConfig,
)
from heliostat.storage import publish, staging
from heliostat.versions.registering import register_artifact

TRANSFORMERS = TransformersEngineConfig()


def naming(**adapters: str) -> ServeConfig:
    return ServeConfig.model_validate(
        {"adapters": [{"name": name, "model": str(model)} for name, model in adapters.items()]}
    )


@pytest.fixture
def model(workspace, tiny_model_folder):
    return publish_model(workspace, tiny_model_folder)


@pytest.fixture
def trained(workspace, model, adapters):
    return publish_adapter(workspace, adapters["a"], model, "a")


@pytest.mark.parametrize("name", ["", "a:b", "a b", "a,b", "-a", "ä", "x" * 65])
def test_a_name_is_of_letters_digits_and_marks_that_part_nothing(name):
    with pytest.raises(ValidationError, match="name"):
        ServeConfig.model_validate({"adapters": [{"name": name, "model": "x"}]})


def test_two_adapters_of_one_name_and_an_engine_that_serves_none_are_refused():
    twice = [{"name": "sql", "model": "x"}, {"name": "sql", "model": "y"}]
    with pytest.raises(ValidationError, match="adapters: 'sql' is there twice"):
        ServeConfig.model_validate({"adapters": twice})
    engine = {"kind": "vllm", "python": "python3"}
    with pytest.raises(ValidationError, match=r"set engine\.max_adapters"):
        ServeConfig.model_validate({"adapters": twice[:1], "engine": engine})
    ServeConfig.model_validate({"adapters": twice[:1], "engine": engine | {"max_adapters": 1}})


def test_other_adapters_need_no_other_replicas_but_more_of_them_at_a_time_do():
    plain, with_adapters = ServeConfig(), naming(sql="x")
    assert plain.same_replicas(with_adapters)
    assert not plain.same_replicas(ServeConfig(max_loaded_adapters=3))
    assert "adapters" not in with_adapters.gateway_settings


@pytest.mark.heavy
def test_an_adapter_is_found_by_folder_id_version_and_by_the_model_it_was_merged_into(
    workspace, model, trained
):
    register_artifact(trained.id, "sql", workspace, candidate=True)
    with staging(workspace.storage, workspace.path("model", "merged", "0" * 12)) as publication:
        (publication.folder / "weights").write_text("w")
        publication.facts["adapter"] = trained.id
        merged = publish(publication, "model", "0" * 12, {}, (trained, model))
    register_artifact(merged.id, "chat", workspace, candidate=True)
    config = naming(
        folder=trained.uri,
        id=trained.id,
        version="sql@candidate",
        merged="chat@candidate",
        merged_folder=merged.uri,
    )
    assert {each.id for each in open_adapters(config, workspace)} == {trained.id}
    found = served_adapters(config, model, TRANSFORMERS, workspace)
    assert [each.name for each in found] == ["folder", "id", "version", "merged", "merged_folder"]
    assert {(each.artifact_id, each.artifact_uri) for each in found} == {(trained.id, trained.uri)}


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("{model}", "is of kind model, and no LoRA adapter"),
        ("adapter-nothing", "no such artifact, version or folder"),
        ("sql@production", "no model of that name has versions"),
        ("{empty}", "holds no adapter"),
        ("{pickled}", "no adapter_model.safetensors"),
    ],
)
@pytest.mark.heavy
def test_what_is_no_adapter_is_one_line_with_its_name(workspace, model, tmp_path, reference, reason):
    empty, pickled = tmp_path / "empty", tmp_path / "pickled"
    empty.mkdir()
    pickled.mkdir()
    (pickled / "adapter_config.json").write_text("{}")
    wanted = reference.format(model=model.uri, empty=empty, pickled=pickled)
    with pytest.raises(ConfigError, match=f"^serve.adapters: sql: .*{reason}") as caught:
        open_adapters(naming(sql=wanted), workspace)
    assert "\n" not in str(caught.value)


def test_an_adapter_belongs_to_the_model_it_was_trained_on_and_to_what_that_was_compressed_into(
    workspace, model, trained, tiny_openvino_folder
):
    exported = publish_quantized(workspace, tiny_openvino_folder, "quick", (model,))
    assert served_adapters(naming(sql=trained.id), exported, OpenVINOEngineConfig(), workspace)
    alien = publish_quantized(workspace, tiny_openvino_folder, "alien", (trained,))
    with pytest.raises(ConfigError, match=rf"sql: {trained.id} was trained on {model.id}, and the endpoint"):
        served_adapters(naming(sql=trained.id), alien, OpenVINOEngineConfig(), workspace)


def test_a_folder_from_elsewhere_is_taken_in_where_its_shapes_fit(
    workspace, model, adapters, tiny_openvino_folder, tmp_path
):
    (found,) = served_adapters(naming(sql=adapters["a"]), model, TRANSFORMERS, workspace)
    taken = import_adapter(adapters["a"], workspace)
    assert (taken.id, taken.uri, taken.parents) == (found.artifact_id, found.artifact_uri, ())
    assert {file.path for file in taken.files} == {"adapter_config.json", "adapter_model.safetensors"}
    other = shutil.copytree(adapters["a"], tmp_path / "other")
    from safetensors.numpy import load_file, save_file

    weights = load_file(other / "adapter_model.safetensors")
    moved = {name.replace("layers.1", "layers.7"): value for name, value in weights.items()}
    save_file(moved, other / "adapter_model.safetensors")
    exported = publish_quantized(workspace, tiny_openvino_folder, "quick", (model,))
    for served, engine in ((model, TRANSFORMERS), (exported, OpenVINOEngineConfig())):
        with pytest.raises(ConfigError, match=r"sql: .*layers\.7.* no such layer"):
            served_adapters(naming(sql=other), served, engine, workspace)


def test_what_an_engine_cannot_put_on_is_refused(workspace, model, adapters, tmp_path):
    folder = shutil.copytree(adapters["a"], tmp_path / "changed")
    file = folder / "adapter_config.json"
    as_it_was = json.loads(file.read_text())

    def refused(engine, reason: str, **changes) -> None:
        file.write_text(json.dumps(as_it_was | changes))
        with pytest.raises(ConfigError, match=reason):
            served_adapters(naming(sql=folder), model, engine, workspace)

    refused(TRANSFORMERS, "sql: .*use_dora", use_dora=True)
    refused(OpenVINOEngineConfig(), "sql: .*differ between layers", alpha_pattern={"q_proj": 3})
    vllm = VLLMEngineConfig(python="python3", max_adapters=2, max_adapter_rank=8)
    wide = adapters["c"]  # of rank 12
    with pytest.raises(ConfigError, match=r"sql: has rank 12; raise engine\.max_adapter_rank from 8"):
        served_adapters(naming(sql=wide), model, vllm, workspace)
    with pytest.raises(ConfigError, match=r"serve\.adapters: engine vllm has none"):
        served_adapters(naming(sql=wide), model, vllm.model_copy(update={"max_adapters": 0}), workspace)
