"""What a run notices of its workers: that one is slow, that its memory ends, that there cannot be one."""

import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from small_artifacts import pack, publish_model, write_dataset
from small_models import small_llama
from tests.training.running import at_step, history, run_folder, training_workers

from heliostat.errors import ClusterError
from heliostat.models.loading import tokenizer_fingerprint
from heliostat.records import Artifact
from heliostat.storage import publish, staging
from heliostat.tokenized import PackedSequence
from heliostat.training.config import FullAdapter, LoraAdapter, TrainConfig
from heliostat.training.findings import read_findings
from heliostat.training.run import train_model
from heliostat.workspace import Workspace

pytestmark = pytest.mark.ray


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_that_is_held_up_is_found(ray_cluster, training_inputs, workspace):
    config = TrainConfig(
        adapter=LoraAdapter(r=4),
        max_steps=250,
        num_workers=2,
        watch={"straggler": {"steps": 20, "factor": 1.5}},
    )
    done = threading.Event()

    def hold_up() -> None:
        """Let one of the workers run for a fifth of the time only."""
        slow = training_workers()[0]
        with suppress(psutil.NoSuchProcess):  # when the run has ended
            while not done.is_set():
                slow.suspend()
                time.sleep(0.04)
                slow.resume()
                time.sleep(0.01)

    thread = at_step(workspace, 20, hold_up)
    try:
        train_model(config, training_inputs.model, training_inputs.dataset, workspace)
    finally:
        done.set()
        thread.join()
    (found, *_) = [each for each in read_findings(run_folder(workspace)) if each.kind == "straggler"]
    assert found.step > 20
    assert "worker" in found.message


def test_a_gpu_that_is_not_there_is_missed_at_once(ray_cluster, training_inputs, workspace):
    config = TrainConfig(use_gpu=True)
    with pytest.raises(
        ClusterError, match=r"train.num_workers asks for 1 x 1 CPU and 1 GPU; this cluster has"
    ):
        train_model(config, training_inputs.model, training_inputs.dataset, workspace)
    assert not workspace.storage.list("models")


def wide_rows(workspace: Workspace, folder: Path, lengths: list[int]) -> Artifact:
    """A tokenized dataset with a row of one document for each length."""
    words = np.concatenate([each.input_ids for each in pack(folder, count=48, max_sequence_length=512)])
    rows = [
        PackedSequence(words[at : at + length], np.ones(length, np.int64), (length,), (f"doc-{at}",))
        for at, length in enumerate(lengths)
    ]
    with staging(workspace.storage, workspace.path("tokenized", "growing", "0" * 12)) as publication:
        write_dataset(publication.folder, folder, {"train": rows})
        publication.facts["tokenizer"] = tokenizer_fingerprint(folder)
        return publish(publication, "tokenized", "0" * 64, {})


@pytest.mark.slow
@pytest.mark.lengthy
@pytest.mark.timeout(600)
def test_a_run_that_meets_the_end_of_its_memory_goes_on_in_smaller_pieces(ray_cluster, tmp_path, caplog):
    folder = small_llama(tmp_path / "model", hidden_size=256, intermediate_size=4096)
    inputs = Workspace.resolve(str(tmp_path / "inputs"))
    model, dataset = publish_model(inputs, folder), wide_rows(inputs, folder, [16] * 340 + [250] * 60)
    config = TrainConfig(
        adapter=FullAdapter(),
        max_steps=24,
        micro_batch_size=16,
        curriculum={"start": 0.1, "until": 0.9},
        checkpoint={"every_steps": 2},
        watch={"on_out_of_memory": "adapt"},
    )
    losses = {}
    for name, memory in (("all", None), ("little", 150 << 20)):
        workspace = Workspace.resolve(str(tmp_path / name))

        def limit(more: int | None = memory) -> None:
            """Short rows have their memory; a thread or two may still start."""
            for worker in training_workers() if more else ():
                worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms + more,) * 2)

        limiting = at_step(workspace, 2, limit)
        train_model(config, model, dataset, workspace)
        limiting.join()
        losses[name] = [entry["loss"] for entry in history(workspace)]
    assert losses["little"] == pytest.approx(losses["all"], abs=1e-4)
    (said,) = [record.message for record in caplog.records if "ran out of memory" in record.message]
    assert "worker 0 ran out of memory (you tried to allocate" in said
    assert "going on from the last checkpoint with micro_batch_size=8 gradient_accumulation_steps=2" in said
