"""Workers that share memory have the mean of their gradients and take the optimizer's step between them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.training.shared_training_worker import (
    SHAPES,
    SMALLER,
    STEPS,
    gradient,
    is_unused,
    made,
    optimizer_of,
    rows,
)

WORKER = Path(__file__).with_name("shared_training_worker.py")


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


def mean_gradient(step: int, number: int) -> torch.Tensor:
    """Over both workers, summed over their micro batches."""
    return sum(
        gradient(rank, step, micro_batch, number) / 2
        for rank in range(2)
        for micro_batch in range(2)
        if not is_unused(rank, step, number)
    )


def test_workers_that_share_learn_what_one_learns_from_the_mean_of_their_gradients(tmp_path):
    first, second = run_two(tmp_path)
    alone = made(torch.float32)
    optimizer = optimizer_of(alone)
    for step in range(STEPS):
        gradients = [mean_gradient(step, number) for number in range(len(SHAPES))]
        for parameter, each in zip(alone, gradients, strict=False):
            parameter.grad = each * (SMALLER if step == 2 else 1)
        optimizer.step()
        for seen in (first[step], second[step]):
            norm = torch.cat([each.flatten() for each in gradients]).norm()
            assert seen["norm"] == pytest.approx(float(norm), rel=1e-5)
            for number in range(len(SHAPES)):
                assert seen["gradients"][number] == pytest.approx(rows(gradients[number]), abs=2e-3)
                assert seen["weights"][number] == pytest.approx(rows(alone[number].detach()), abs=2e-3)
        assert sorted(first[step].pop("stepped") + second[step].pop("stepped")) == list(range(len(SHAPES)))
    assert first == second, "to the last bit"
    weight_and_moments = 4 * SHAPES[0][0]
    assert sorted(first[-1]["stored"]) == [4, *3 * [weight_and_moments]], "all that is saved of them"


@pytest.mark.slow
def test_workers_that_do_not_see_each_others_processes_do_not_share(tmp_path):
    if os.geteuid() != 0:
        pytest.fail("this test makes a process namespace: run it as root, with util-linux installed")
    assert run_two(tmp_path, second=("unshare", "--fork", "--pid", "--mount-proc")) == [None, None]
