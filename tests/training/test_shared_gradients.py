"""Workers that share memory have the mean of their gradients, the same numbers to the last bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.training.shared_gradients_worker import SHAPES, gradient

WORKER = Path(__file__).with_name("shared_gradients_worker.py")


def run_two(folder: Path, second: tuple[str, ...] = ()) -> list:
    """What both workers saw; `second` is put in front of the second's command."""
    files = [folder / f"{rank}.json" for rank in range(2)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    started = [
        subprocess.Popen(
            [*front, sys.executable, WORKER, str(rank), folder / "rendezvous", files[rank]],
            env=environment,
        )
        for rank, front in enumerate(((), second))
    ]
    try:
        assert [process.wait(timeout=90) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    return [json.loads(file.read_text()) for file in files]


def test_each_worker_reads_the_mean_over_workers_and_the_sum_over_micro_batches(tmp_path):
    first, second = run_two(tmp_path)
    assert first == second, "to the last bit"
    for step, seen in enumerate(first):
        for number, shape in enumerate(SHAPES):
            each = [
                sum(gradient(rank, step, micro_batch, number) for micro_batch in range(2))
                for rank in range(2)
            ]
            if step == 1 and number == 1:
                each[1] = torch.zeros(shape)
            expected = (each[0] + each[1]) / 2 * (0.25 if step == 2 else 1)
            assert seen[number] == pytest.approx(expected.double().sum(dim=-1).flatten().tolist(), abs=1e-3)


@pytest.mark.slow
def test_workers_that_do_not_see_each_others_processes_do_not_share(tmp_path):
    if os.geteuid() != 0:
        pytest.fail("this test makes a process namespace: run it as root, with util-linux installed")
    assert run_two(tmp_path, second=("unshare", "--fork", "--pid", "--mount-proc")) == [None, None]
