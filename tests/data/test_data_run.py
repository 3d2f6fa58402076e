"""The stage as others call it: through Ray Data, published, found again, and only redone where it must be."""

import shutil
from pathlib import Path

import pytest
from tests.data.in_process import digest, in_order, prepare, texts, write_jsonl
from tests.small_artifacts import publish_model

from heliostat.data import run as data_run
from heliostat.data.config import DataConfig
from heliostat.data.run import prepare_data
from heliostat.errors import ClusterError, ConfigError, DataError
from heliostat.records import Receipt
from heliostat.storage import artifact_folder, find_artifact
from heliostat.tokenized import TokenizedDataset
from heliostat.workspace import Workspace

pytestmark = pytest.mark.heavy


@pytest.fixture
def config(tmp_path) -> DataConfig:
    (tmp_path / "in").mkdir()
    for number in range(4):
        write_jsonl(
            tmp_path / "in" / f"{number}.jsonl", [*texts(60, seed=number), "{broken", {"text": "same"}]
        )
    steps = [
        {"kind": "normalise"},
        {"kind": "exact_dedup"},
        {"kind": "length", "min_tokens": 3},
        {"kind": "pii"},
    ]
    source = {"kind": "jsonl", "path": str(tmp_path / "in")}
    return DataConfig.model_validate(
        {"sources": [source], "steps": steps, "tokenize": {"max_sequence_length": 128}}
    )


def datasets(workspace) -> list[str]:
    return [name for name in workspace.storage.list("data/processed") if not name.startswith(".")]


@pytest.mark.ray
def test_documents_become_a_tokenized_dataset_with_a_receipt(
    ray_cluster, workspace, tiny_model_folder, config, tmp_path, monkeypatch
):
    monkeypatch.setattr("heliostat.data.sources.BYTES_PER_ITEM", 10_000)
    model = publish_model(workspace, tiny_model_folder)
    made = prepare_data(config, model, workspace)
    receipt = Receipt.model_validate(made.facts["receipt"])
    assert receipt.read.documents == 248
    assert {reason: count.documents for reason, count in receipt.dropped.items()} == {
        "broken_json": 4,
        "exact_duplicate": 3,
    }
    data = TokenizedDataset(artifact_folder(made), "train")
    assert data.num_tokens == receipt.kept["train"].tokens
    assert made.facts["splits"]["train"]["packing_efficiency"] > 0.9
    dataset = find_artifact(workspace.storage, f"data/processed/{datasets(workspace)[0]}")
    assert made.parents == (dataset.id, model.id)
    assert made.facts["dataset"] == dataset.id

    # In this process and in another order: the same bytes.
    one_dataset, one = prepare(config, model, tmp_path / "in-process")
    assert digest(artifact_folder(dataset)) == digest(artifact_folder(one_dataset))
    assert digest(artifact_folder(made)) == digest(artifact_folder(one))

    # Asked again, it is there; asked for other lengths, the cleaned documents are.
    assert prepare_data(config, model, workspace) == made
    other = config.model_copy(update={"tokenize": config.tokenize.model_copy(update={"packing": False})})
    unpacked = prepare_data(other, model, workspace)
    assert unpacked.id != made.id
    assert unpacked.facts["dataset"] == made.facts["dataset"]
    assert len(datasets(workspace)) == 1
    assert not [name for name in workspace.storage.list("runs", recursive=True) if "shards-" in name]

    # A file that changes is read again.
    write_jsonl(tmp_path / "in" / "0.jsonl", texts(50, seed=9))
    assert prepare_data(config, model, workspace).facts["dataset"] != made.facts["dataset"]


def test_files_of_tasks_that_are_half_gone_are_never_believed(config, workspace, model, monkeypatch):
    """Killed while the tasks' files are removed: their records must not pass for work that is done."""

    def killed(run) -> None:
        storage, path = run.workspace.storage, data_run._scratch_path(run)
        storage.write_bytes(f"{path}{data_run._HALF_GONE}", b"")
        for file in Path(storage.uri(path)).glob("*.arrow"):
            file.unlink()

    monkeypatch.setattr("heliostat.data.run._runner", lambda config, run: in_order)
    with monkeypatch.context() as patch:
        patch.setattr(data_run, "_discard", killed)
        made = prepare_data(config, model, workspace)
    for kind in ("processed", "tokenized"):
        shutil.rmtree(workspace.storage.uri(f"data/{kind}"))
    assert prepare_data(config, model, workspace).content == made.content
    assert not [name for name in workspace.storage.list("runs", recursive=True) if "shards-" in name]


def test_what_lies_beside_the_data_is_named(tmp_path, workspace, monkeypatch, caplog):
    caplog.set_level("INFO", logger="heliostat")
    monkeypatch.setattr("heliostat.data.run._runner", lambda config, run: in_order)
    (tmp_path / "in").mkdir()
    write_jsonl(tmp_path / "in" / "citations.jsonl", texts(20))
    (tmp_path / "in" / "README.md").write_text("About.")
    (tmp_path / "in" / "chart.png").write_bytes(b"png")
    made = prepare_data(DataConfig.model_validate({"sources": [str(tmp_path / "in")]}), None, workspace)
    assert made.facts["files_left_out"] == {"files": 2, "names": ["in/README.md", "in/chart.png"]}
    assert "dataset: 2 file(s) beside the data are not read: in/README.md, in/chart.png" in caplog.messages


def test_columns_kept_under_the_name_of_a_step_count_as_no_finding(tmp_path, workspace, monkeypatch):
    """As FineWeb's `language`, which is text, and CCNet's `perplexity`."""
    monkeypatch.setattr("heliostat.data.run._runner", lambda config, run: in_order)
    rows = [row | {"language": "en", "pii": 3, "perplexity": "low"} for row in texts(20)]
    source = {"kind": "jsonl", "path": str(write_jsonl(tmp_path / "a.jsonl", rows))}
    source["keep_columns"] = ["language", "pii", "perplexity"]
    made = prepare_data(DataConfig.model_validate({"sources": [source]}), None, workspace)
    assert made.facts["found"] == {"pii": {}, "languages": {}, "scores": {}}
    with pytest.raises(ValueError, match="keep_columns: a step notes what it finds as 'language'"):
        DataConfig.model_validate({"sources": [source], "steps": [{"kind": "language"}]})


def test_a_source_that_is_not_there_leaves_nothing(workspace, model, config):
    wrong = config.model_copy(
        update={"sources": (config.sources[0].model_copy(update={"path": "/no/such"}),)}
    )
    with pytest.raises(ConfigError, match="no such file or folder"):
        prepare_data(wrong, model, workspace)
    assert workspace.storage.list("runs") == []


@pytest.mark.ray
def test_an_error_in_a_task_comes_back_as_itself(
    ray_cluster, workspace, model, config, tmp_path, monkeypatch
):
    import gzip

    content = b"".join(b'{"text": "row %d"}\n' % number for number in range(20_000))
    (tmp_path / "in" / "cut.jsonl.gz").write_bytes(gzip.compress(content)[:-2000])
    monkeypatch.setattr("heliostat.data.run.fingerprint_sources", lambda config: "")
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz: cannot be read") as caught:
        prepare_data(config, model, workspace)
    assert "\n" not in str(caught.value)
    assert datasets(workspace) == []


@pytest.mark.ray
def test_more_than_the_cluster_has_is_refused_at_once(ray_cluster, workspace, model, config):
    greedy = config.model_copy(update={"resources": config.resources.model_copy(update={"num_cpus": 999})})
    with pytest.raises(ClusterError, match="data preparation asks for 1 x 999 CPU"):
        prepare_data(greedy, model, workspace)
    assert datasets(workspace) == []


def test_a_workspace_on_an_object_store(s3_root, model, config, tmp_path, monkeypatch):
    """Without Ray: its processes may have been started before the credentials were set."""
    monkeypatch.setattr("heliostat.data.run._runner", lambda config, run: in_order)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    place, mark, options = s3_root.partition("?")
    workspace = Workspace.resolve(f"{place}/{tmp_path.name}{mark}{options}")
    made = prepare_data(config, model, workspace)
    assert prepare_data(config, model, workspace) == made
    assert digest(artifact_folder(made)) == digest(
        artifact_folder(prepare(config, model, tmp_path / "local")[1])
    )
    assert not [name for name in workspace.storage.list("runs", recursive=True) if "shards-" in name]
