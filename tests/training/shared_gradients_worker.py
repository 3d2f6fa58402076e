"""One of two workers that add gradients up in shared memory, and what it saw, as JSON.

python shared_gradients_worker.py RANK RENDEZVOUS_FILE OUTPUT_FILE
"""

import json
import sys
from pathlib import Path

import torch

from heliostat.training.shared_gradients import SharedGradients

SHAPES = ((300_000,), (7, 5), (1,), (513, 3))


def made(dtype: torch.dtype) -> list[torch.nn.Parameter]:
    parameters = [torch.nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in SHAPES]
    return [*parameters, torch.nn.Parameter(torch.zeros(3), requires_grad=False)]


def gradient(rank: int, step: int, micro_batch: int, number: int) -> torch.Tensor:
    chance = torch.Generator().manual_seed(1000 * step + 100 * micro_batch + 10 * number + rank)
    return torch.randn(SHAPES[number], generator=chance)


def main(rank: int, rendezvous: str, output: Path) -> None:
    torch.distributed.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=2)
    assert SharedGradients.join(made(torch.bfloat16 if rank == 1 else torch.float32)) is None, "on both"
    parameters = made(torch.float32)
    shared = SharedGradients.join(parameters)
    torch.distributed.barrier()
    if shared is None:
        output.write_text(json.dumps(None))
        return
    found = []
    for step in range(3):
        for micro_batch in range(2):
            unused = 1 if rank == 1 and step == 1 else None  # the second worker has no gradient for this one
            loss = sum(
                (parameter * gradient(rank, step, micro_batch, number)).sum()
                for number, parameter in enumerate(parameters[:-1])
                if number != unused
            )
            loss.backward()
            assert all(parameter.grad is None for parameter in parameters)
        shared.average()
        if step == 2:
            shared.scale(0.25)
        found.append(
            [parameter.grad.double().sum(dim=-1).flatten().tolist() for parameter in parameters[:-1]]
        )
        for parameter in parameters:
            parameter.grad = None
        torch.distributed.barrier()
    output.write_text(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
