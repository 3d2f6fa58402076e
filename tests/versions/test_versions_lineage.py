"""Lineage in both directions: from an endpoint to source files with their hashes, and back."""

import hashlib
import json

import pytest
from versions.small_records import artifact, endpoint, serving

from heliostat.config import Config
from heliostat.data.config import DataConfig
from heliostat.data.run import prepare_data
from heliostat.endpoints import write_record
from heliostat.errors import ArtifactError, ConfigError
from heliostat.models.importing import import_model
from heliostat.stage import Request, find_or_make
from heliostat.versions.contents import Contents
from heliostat.versions.lineage import Lineage
from heliostat.versions.registering import register_artifact
from heliostat.versions.tree import tree_lines

pytestmark = pytest.mark.heavy


class Words(Config):
    text: str = "x"


def stage(workspace, name: str, kind: str, *parents):
    def work(publication, run) -> None:
        (publication.folder / "content").write_text(name)

    return find_or_make(workspace, Request(name, kind, name, Words(), parents), work)


@pytest.fixture
def chain(ray_cluster, workspace, tiny_model_folder, tmp_path):
    """Real documents of a real file, tokenized for a real model; then what training and serving record."""
    rows = [{"text": f"Document {number} about heliostats and their mirrors."} for number in range(40)]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    base = import_model(str(tiny_model_folder), workspace)
    config = DataConfig.model_validate({"name": "rows", "sources": [{"kind": "jsonl", "path": str(source)}]})
    dataset = prepare_data(config, base, workspace)
    adapter = stage(workspace, "train", "adapter", base, dataset)
    model = stage(workspace, "merge", "model", adapter, base)
    small = stage(workspace, "compress", "quantized", model, dataset)
    report = stage(workspace, "evaluate", "report", small, dataset)
    register_artifact(small.id, "chat", workspace, "v1.0.0", candidate=True)
    write_record(workspace, endpoint("chat", small, "running"))
    made = {"base": base, "dataset": dataset, "adapter": adapter, "model": model, "small": small}
    return {"source": source, "report": report, **made}


@pytest.mark.ray
def test_an_endpoint_goes_back_to_the_hashes_of_its_source_files_and_on_again(workspace, chain):
    lineage = Lineage.of(Contents.read(workspace))
    up = lineage.to_json("endpoint:chat")
    by_id = {node["id"]: node for node in up["nodes"]}
    source = by_id[str(chain["source"])]
    assert source["sha256"] == hashlib.sha256(chain["source"].read_bytes()).hexdigest()
    for each in ("base", "dataset", "adapter", "model", "small"):
        assert chain[each].id in by_id
    kinds = [node["kind"] for node in up["nodes"]]
    assert [kinds.count(kind) for kind in ("endpoint", "version", "dataset", "tokenized", "run")] == [
        1,
        1,
        1,
        1,
        6,
    ]
    assert ["endpoint:chat", "chat@v1.0.0"] in [list(edge) for edge in up["edges"]]

    down = lineage.to_json(str(chain["source"]), down=True)
    reached = {node["id"] for node in down["nodes"]}
    assert {"endpoint:chat", "chat@v1.0.0", chain["small"].id, chain["report"].id} <= reached
    assert chain["base"].id not in reached

    lines = list(tree_lines(lineage, "endpoint:chat"))
    assert lines[0].startswith("endpoint chat  running, http://")
    assert any(source["sha256"] in line for line in lines)
    assert lines[-1].startswith(f"report on it: {chain['report'].id}")
    assert sum("(see above)" not in line for line in lines[:-1]) == len(up["nodes"])


@pytest.mark.ray
def test_everything_can_be_named(workspace, chain):
    lineage = Lineage.of(Contents.read(workspace))
    small = chain["small"]
    assert lineage.find("chat@candidate", workspace).id == "chat@v1.0.0"
    assert lineage.find("chat", workspace).id == "endpoint:chat"
    for text in (small.id, small.id[:-2], small.uri):
        assert lineage.find(text, workspace).id == small.id
    assert lineage.find(str(chain["source"]), workspace).kind == "source"
    assert lineage.find(workspace.storage.list("runs")[0], workspace).kind == "run"
    with pytest.raises(ArtifactError, match="did you mean"):
        lineage.find(f"{small.id}x", workspace)
    with pytest.raises(ArtifactError, match="give more of it"):
        lineage.find("run:", workspace)
    with pytest.raises(ConfigError, match="did you mean 'chat@production'"):
        lineage.find("chta@production", workspace)


def test_what_is_gone_is_named_as_gone(workspace, make):
    parent = make("parent")
    child = make("child", "quantized", parent)
    workspace.storage.delete(workspace.path_of(parent.uri))
    lineage = Lineage.of(Contents.read(workspace))
    assert [line.split()[:3] for line in tree_lines(lineage, child.id)][1] == ["└─", "gone", parent.id]


def test_of_many_source_files_the_first_are_shown(workspace, make):
    sources = [{"path": f"/data/{number}", "bytes": 1, "sha256": "0" * 64} for number in range(25)]
    dataset = make("rows", "dataset", facts={"sources": sources})
    lines = list(tree_lines(Lineage.of(Contents.read(workspace)), dataset.id))
    assert len(lines) == 12
    assert lines[-1] == "└─ and 15 source files more; --json names all"


def test_an_endpoint_goes_back_to_its_adapters_too():
    model, adapter = artifact(1, "model", ()), artifact(2, "adapter", ("model-1",))
    record = endpoint("chat", model, "running").model_copy(
        update={"versions": (serving("v1", model, adapter),)}
    )
    lineage = Lineage.of(Contents({each.id: each for each in (model, adapter)}, deployments=(record,)))
    assert set(lineage.above["endpoint:chat"]) == {model.id, adapter.id}
