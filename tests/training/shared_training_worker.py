"""One of two workers that share what they train, and what it saw, as JSON.

python shared_training_worker.py RANK RENDEZVOUS_FILE OUTPUT_FILE
"""

import copy
import json
import sys
from pathlib import Path

import torch

from heliostat.training.shared_training import SharedTraining

SHAPES = ((300_000,), (7, 5), (1,), (513, 300), (64, 64))
STEPS = 4
SMALLER = 0.25
"""What the gradients of step 2 are multiplied by, as clipping does."""


def made(dtype: torch.dtype) -> list[torch.nn.Parameter]:
    chance = torch.Generator().manual_seed(7)
    parameters = [torch.nn.Parameter(torch.randn(shape, generator=chance).to(dtype)) for shape in SHAPES]
    return [*parameters, torch.nn.Parameter(torch.zeros(3), requires_grad=False)]


def optimizer_of(parameters: list[torch.nn.Parameter]) -> torch.optim.AdamW:
    return torch.optim.AdamW([each for each in parameters if each.requires_grad], lr=0.01, fused=True)


def gradient(rank: int, step: int, micro_batch: int, number: int) -> torch.Tensor:
    chance = torch.Generator().manual_seed(1000 * step + 100 * micro_batch + 10 * number + rank)
    return torch.randn(SHAPES[number], generator=chance)


def is_unused(rank: int, step: int, number: int) -> bool:
    """The second worker has no gradient for one parameter in one step."""
    return (rank, step, number) == (1, 1, 1)


def main(rank: int, rendezvous: str, output: Path) -> None:
    torch.distributed.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=2)
    other = made(torch.bfloat16 if rank == 1 else torch.float32)
    assert SharedTraining.join(other, optimizer_of(other)) is None, "on both"
    parameters = made(torch.float32)
    optimizer = optimizer_of(parameters)
    shared = SharedTraining.join(parameters, optimizer)
    torch.distributed.barrier()
    if shared is None:
        output.write_text(json.dumps(None))
        return
    found = []
    for step in range(STEPS):
        for micro_batch in range(2):
            loss = sum(
                (parameter * gradient(rank, step, micro_batch, number)).sum()
                for number, parameter in enumerate(parameters[:-1])
                if not is_unused(rank, step, number)
            )
            loss.backward()
            assert all(parameter.grad is None for parameter in parameters)
        shared.average()
        seen = {"norm": shared.norm, "gradients": [rows(each.grad) for each in parameters[:-1]]}
        torch.distributed.barrier()
        shared.keep_share(SMALLER if step == 2 else 1.0)
        seen["stepped"] = [number for number, each in enumerate(parameters) if each.grad is not None]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.distributed.barrier()
        seen["weights"] = [rows(each.detach()) for each in parameters[:-1]]
        if step == 1:  # as a run that goes on from a checkpoint
            kept = copy.deepcopy(optimizer.state_dict())
            torch.distributed.barrier()
            optimizer.load_state_dict(kept)
            shared.share_state()
        stored = [parameters[0], *optimizer.state[parameters[0]].values()]
        seen["stored"] = [each.untyped_storage().nbytes() for each in stored]
        found.append(seen)
    output.write_text(json.dumps(found))


def rows(tensor: torch.Tensor) -> list[float]:
    return tensor.double().sum(dim=-1).flatten().tolist()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
