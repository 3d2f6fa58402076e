"""What goes wrong in the middle of a run is one line that says where, and costs nothing that was saved."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_artifacts import pack, publish_dataset, publish_model
from tests.training.running import at_step, history, run_folder, training_workers

from heliostat.errors import TrainingError
from heliostat.models.adapters import copy_tokenizer
from heliostat.models.loading import tokenizer_fingerprint
from heliostat.records import Artifact
from heliostat.storage import publish, staging
from heliostat.tokenized import INDEX_NAME, TOKENIZER_FOLDER, write_part
from heliostat.training.config import FullAdapter, LoraAdapter, TrainConfig
from heliostat.training.run import train_model
from heliostat.workspace import Workspace

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]


def one_line(raised: pytest.ExceptionInfo) -> str:
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


def with_weights(model_folder: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """A copy of a model whose weights are changed in place."""
    shutil.copytree(model_folder, target)
    weights = load_file(target / "model.safetensors")
    change(weights)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.mark.parametrize("stage", [0, 2])
def test_a_weight_that_is_no_number_is_named_with_the_documents_and_the_batch_is_kept(
    ray_cluster, tiny_model_folder, workspace, tmp_path, stage
):
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        weights["model.layers.1.mlp.down_proj.weight"][3, 5] = float("nan")

    broken = with_weights(tiny_model_folder, tmp_path / "broken", spoil)
    model, dataset = publish_model(workspace, broken, "broken"), publish_dataset(workspace, broken)
    config = TrainConfig(adapter=FullAdapter(), num_workers=2, max_steps=4, layout={"zero": {"stage": stage}})
    with pytest.raises(TrainingError, match=r"step 1: weight of model\.layers\.1\.mlp\.down_proj") as raised:
        train_model(config, model, dataset, workspace)
    said = one_line(raised)
    assert "doc-" in said
    (batch, *_) = sorted((run_folder(workspace) / "faults").glob("step-1-rank-*.npz"))
    kept = np.load(batch, allow_pickle=False)
    assert "input_ids" in kept
    facts = json.loads(batch.with_suffix(".json").read_text())
    assert facts["fault"]["document_ids"]


@pytest.mark.parametrize("stage", [0, 2])
def test_a_gradient_that_is_no_number_under_a_loss_that_is_one_is_named(
    ray_cluster, tiny_model_folder, workspace, tmp_path, stage
):
    """Small embeddings and a large head let gradients grow, and what zero is multiplied with may be large."""

    def spoil(weights: dict[str, torch.Tensor]) -> None:
        weights["model.embed_tokens.weight"] *= 1e-3
        weights["model.layers.1.mlp.gate_proj.weight"] *= 1e3
        weights["model.layers.1.mlp.up_proj.weight"] *= 1e35
        weights["model.layers.1.mlp.down_proj.weight"].zero_()
        weights["lm_head.weight"] *= 1e3

    broken = with_weights(tiny_model_folder, tmp_path / "broken", spoil)
    model, dataset = publish_model(workspace, broken, "broken"), publish_dataset(workspace, broken)
    config = TrainConfig(adapter=FullAdapter(), num_workers=2, max_steps=4, layout={"zero": {"stage": stage}})
    with pytest.raises(TrainingError, match=r"gradient of model\.layers\.1\.mlp\.down_proj") as raised:
        train_model(config, model, dataset, workspace)
    assert "doc-" in one_line(raised)


def test_a_loss_that_leaves_its_range_stops_the_run_where_the_recipe_says_so(
    ray_cluster, training_inputs, workspace
):
    config = TrainConfig(
        adapter=FullAdapter(),
        max_steps=400,
        learning_rate=5.0,  # no model survives this
        watch={
            "loss_spike": {"action": "stop", "window": 10, "factor": 4},
            "gradient_norm": {"action": "stop", "most": 5, "steps": 5, "after_steps": 5},
        },
    )
    with pytest.raises(TrainingError, match=r"of 400 is saved, run again to go on|not finite"):
        train_model(config, training_inputs.model, training_inputs.dataset, workspace)


def test_a_dataset_file_that_vanishes_in_mid_run_is_named(
    ray_cluster, training_inputs, tiny_model_folder, workspace
):
    dataset = of_many_parts(workspace, tiny_model_folder)
    config = TrainConfig(adapter=LoraAdapter(r=4), max_steps=4000, checkpoint={"every_steps": 10})
    parts = Path(dataset.uri) / "train"
    thread = at_step(workspace, 20, lambda: shutil.rmtree(parts))
    with pytest.raises(TrainingError, match=r"part-\d+\.parquet: a part of the tokenized dataset") as raised:
        train_model(config, training_inputs.model, dataset, workspace)
    thread.join()
    one_line(raised)


def of_many_parts(workspace: Workspace, model_folder: Path) -> Artifact:
    """More row groups than are kept in memory."""
    with staging(workspace.storage, workspace.path("tokenized", "parts", "0" * 64)) as publication:
        sequences = pack(model_folder, 60, 64)
        parts = [
            write_part(publication.folder / "train" / f"part-{number:05d}.parquet", [sequence])
            for number, sequence in enumerate(sequences * 3)
        ]
        assert len(parts) > 60
        (publication.folder / INDEX_NAME).write_text(json.dumps({"splits": {"train": parts}}))
        copy_tokenizer(model_folder, publication.folder / TOKENIZER_FOLDER)
        publication.facts["tokenizer"] = tokenizer_fingerprint(model_folder)
        return publish(publication, "tokenized", "0" * 64, {})


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0:
        pytest.fail("this test mounts a small disk: run it as root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.lengthy
def test_a_disk_that_fills_up_leaves_the_last_checkpoint_to_go_on_from(
    ray_cluster, training_inputs, empty_tracking_store, small_disk, monkeypatch
):
    shutil.copy(empty_tracking_store, small_disk)
    workspace = Workspace.resolve(str(small_disk))
    config = TrainConfig(
        adapter=FullAdapter(), max_steps=600, learning_rate=0.003, checkpoint={"every_steps": 10}
    )

    def fill_up() -> None:
        with (small_disk / "filler").open("wb") as stream:
            try:
                while True:
                    stream.write(bytes(2**16))
                    stream.flush()
            except OSError:
                return

    thread = at_step(workspace, 20, fill_up)
    with pytest.raises(TrainingError, match="disk is full") as raised:
        train_model(config, training_inputs.model, training_inputs.dataset, workspace)
    thread.join()
    one_line(raised)
    (small_disk / "filler").unlink()
    done, stopped_at = len(history(workspace)), time.time()
    assert done < 600
    artifact = train_model(config, training_inputs.model, training_inputs.dataset, workspace)
    assert artifact.facts["steps"] == 600
    record = json.loads((run_folder(workspace) / "run.json").read_text())
    assert record["attempts"] == 2
    assert sum(entry["time"] < stopped_at for entry in history(workspace)) >= 10, "from a checkpoint"


def test_a_worker_that_is_killed_once_too_often_is_one_line_and_the_next_run_goes_on(
    ray_cluster, training_inputs, workspace
):
    config = TrainConfig(
        adapter=LoraAdapter(r=4), max_steps=400, checkpoint={"every_steps": 20}, max_failures=0
    )
    killed_at: list[float] = []

    def kill() -> None:
        killed_at.append(time.time())
        training_workers()[0].kill()

    killer = at_step(workspace, 60, kill)
    with pytest.raises(TrainingError) as raised:
        train_model(config, training_inputs.model, training_inputs.dataset, workspace)
    said_after = time.time() - killed_at[0]
    killer.join()
    assert re.fullmatch(
        r"training stopped: worker \d+: its process was killed or its host is gone \(max_failures: 0\); "
        rf"state is kept in {run_folder(workspace)}, run again to go on from it",
        one_line(raised),
    )
    assert (
        train_model(config, training_inputs.model, training_inputs.dataset, workspace).facts["steps"] == 400
    )
    entries = history(workspace)
    assert [entry["step"] for entry in entries] == list(range(1, 401))
    again = next(entry for entry in entries if entry["time"] > killed_at[0] + said_after)
    assert again["step"] > 40, "from a checkpoint"
    print(
        f"said after {said_after:.1f} s; the next run's first step, {again['step']}, "
        f"{again['time'] - killed_at[0]:.1f} s after the loss"
    )


def test_sigterm_saves_the_last_step_before_the_run_ends(training_inputs, tmp_path):
    config = TrainConfig(adapter=LoraAdapter(r=4), max_steps=100_000, num_workers=2)
    program = Path(__file__).with_name("train_once.py")
    uris = [training_inputs.model.uri, training_inputs.dataset.uri]
    command = [sys.executable, program, config.model_dump_json(), *uris, str(tmp_path / "w")]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    thread = at_step(Workspace.resolve(str(tmp_path / "w")), 30, lambda: process.send_signal(signal.SIGTERM))
    said = process.communicate(timeout=300)[1]
    thread.join()
    (step,) = map(int, re.findall(r"stopped as told; step (\d+) of 100000 is saved", said))
    (run,) = (tmp_path / "w" / "runs").glob("train-*")
    assert history(tmp_path / "w")[-1]["step"] == step
    (state,) = sorted((run / "checkpoints").glob("*/state.json"))[-1:]
    assert json.loads(state.read_text())["steps_done"] == step
