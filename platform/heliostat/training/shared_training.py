"""One copy of what is trained for all CPU workers of a host, and gradients added up in memory they share.

DeepSpeed gives each worker weights and an optimizer's state of its own, copies all gradients into buckets and
sends these through gloo's sockets, also between processes that sit beside each other. Here weights, both of
Adam's moments and a slot of gradients for each worker lie in one shared memory. The backward pass puts each
gradient into the worker's slot as soon as it is whole. At the end each worker adds up all slots for its own
share of the parameters, always in the order of the workers, and steps just these: what it writes is what all
read. So each pass over memory is made once on a host, not once a worker.
"""

import mmap
import os
import secrets
from collections.abc import Sequence
from itertools import accumulate
from typing import Self

import torch
import torch.distributed

FLOAT = 4
LINE = 64
"""Bytes of a cache line, at which each parameter begins; the first holds what tells the right memory."""
CHUNK = 1 << 18
"""Numbers that are added up at a time: few enough for a processor's cache."""
MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of each parameter, besides the number of its steps."""


class SharedTraining:
    """One worker's place among those that share.

    After `average` each parameter's `.grad` is a piece of memory that all workers read. The next backward
    pass, and the next forward pass, use memory that other workers may still be writing: a collective has to
    come between them and the optimizer's step.
    """

    @classmethod
    def join(cls, parameters: Sequence[torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> Self | None:
        """Share with all other workers, who call this, too, with the same parameters, of the same values.

        None where that cannot be, on all workers alike: they are on several hosts, have parameters that are
        not float32 on a CPU, or another optimizer than AdamW.
        """
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        plain = all(each.dtype == torch.float32 and not each.is_cuda for each in trained)
        if not _all_agree(plain and isinstance(optimizer, torch.optim.AdamW)):
            return None
        num_workers = torch.distributed.get_world_size()
        regions = 1 + len(MOMENTS) + num_workers
        size = regions * sum(map(_room, trained)) + len(trained)
        memory = _shared_memory(LINE + FLOAT * size)
        if not _all_agree(memory is not None) or memory is None:
            return None
        return cls(trained, optimizer, memory)

    def __init__(
        self, parameters: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, memory: mmap.mmap
    ) -> None:
        """Take each gradient from the backward passes from now on. `memory` holds, behind its first line, the
        weights, both moments, a slot for each worker, and how often each parameter was stepped."""
        self.norm = 0.0
        """Over all gradients, of the last `average`."""
        self._parameters = parameters
        self._optimizer = optimizer
        rank, num_workers = torch.distributed.get_rank(), torch.distributed.get_world_size()
        ends = [0, *accumulate(map(_room, parameters))]
        weights, *begins = range(0, (1 + len(MOMENTS) + num_workers) * ends[-1], ends[-1])
        moments, slots = begins[: len(MOMENTS)], begins[len(MOMENTS) :]
        end = slots[-1] + ends[-1]
        self._steps = [_numbers(memory, end + number, 1).view(()) for number in range(len(parameters))]
        self._moments = {
            name: _cut(memory, begin, parameters) for name, begin in zip(MOMENTS, moments, strict=True)
        }
        self._slots = [_numbers(memory, begin, ends[-1]) for begin in slots]
        self._mine = _share_of(parameters, rank, num_workers)
        self._part = slice(ends[self._mine.start], ends[self._mine.stop])
        self._own = dict(zip(parameters, _cut(memory, slots[rank], parameters), strict=True))
        self._total = _cut(memory, slots[0], parameters)
        for parameter, shared in zip(parameters, _cut(memory, weights, parameters), strict=True):
            if rank == 0:
                shared.copy_(parameter.detach())
            parameter.data = shared
            parameter.register_post_accumulate_grad_hook(self._take)
        self._taken: set[torch.nn.Parameter] = set()
        self.share_state()

    def share_state(self) -> None:
        """Move the optimizer's state, which is the same on all workers, to the memory they share. Again after
        a state was loaded."""
        for number, parameter in enumerate(self._parameters):
            state = self._optimizer.state[parameter]
            shared = {name: each[number] for name, each in self._moments.items()}
            shared["step"] = self._steps[number]
            for name, place in shared.items():
                if name in state:
                    place.copy_(state[name])
                state[name] = place
        torch.distributed.barrier()

    def average(self) -> None:
        """Give each parameter the mean of all workers' gradients; one without any has zeros."""
        for parameter in self._parameters:
            if parameter not in self._taken:
                self._own[parameter].zero_()
        self._taken.clear()
        torch.distributed.barrier()
        squared = 0.0
        parts = [slot[self._part].split(CHUNK) for slot in self._slots]
        for total, *others in zip(*parts, strict=True):
            for other in others:
                total.add_(other)
            total.mul_(1 / len(self._slots))
            squared += float(total.dot(total))
        summed = torch.tensor(squared, dtype=torch.float64)
        torch.distributed.all_reduce(summed)
        self.norm = float(summed.sqrt())
        for parameter, total in zip(self._parameters, self._total, strict=True):
            parameter.grad = total

    def keep_share(self, factor: float = 1.0) -> None:
        """Leave the optimizer's next step the gradients of this worker's own share of the parameters, times
        a factor."""
        for number, parameter in enumerate(self._parameters):
            if number not in self._mine:
                parameter.grad = None
        if factor != 1.0:
            self._slots[0][self._part].mul_(factor)

    def _take(self, parameter: torch.nn.Parameter) -> None:
        """Move a fresh gradient to the slot, or add it to that of the micro batches before."""
        assert parameter.grad is not None, "torch calls this after it was accumulated"
        if parameter in self._taken:
            self._own[parameter].add_(parameter.grad)
        else:
            self._own[parameter].copy_(parameter.grad)
            self._taken.add(parameter)
        parameter.grad = None


def _room(parameter: torch.nn.Parameter) -> int:
    """How many numbers a parameter takes, to the end of its last cache line."""
    line = LINE // FLOAT
    return -(-int(parameter.numel()) // line) * line


def _numbers(memory: mmap.mmap, begin: int, count: int) -> torch.Tensor:
    """So many of the shared numbers, as a tensor whose storage is no more than that: what is saved of a
    tensor is its storage."""
    return torch.frombuffer(memory, dtype=torch.float32, count=count, offset=LINE + FLOAT * begin)


def _cut(memory: mmap.mmap, begin: int, parameters: Sequence[torch.nn.Parameter]) -> list[torch.Tensor]:
    """A piece of the shared numbers for each parameter, in its shape."""
    begins = accumulate(map(_room, parameters), initial=begin)
    return [
        _numbers(memory, at, each.numel()).view(each.shape)
        for at, each in zip(begins, parameters, strict=False)
    ]


def _share_of(parameters: Sequence[torch.nn.Parameter], rank: int, num_workers: int) -> range:
    """Which parameters, by number, a worker adds up and steps: neighbours, and about as many numbers for each
    worker as whole parameters allow."""
    rooms = [_room(each) for each in parameters]
    middles = [end - room / 2 for end, room in zip(accumulate(rooms), rooms, strict=True)]
    size = sum(rooms)
    first, last = (
        sum(middle < size * share / num_workers for middle in middles) for share in (rank, rank + 1)
    )
    return range(first, last)


def _shared_memory(num_bytes: int) -> mmap.mmap | None:
    """The same memory on all workers, or None on those that cannot have it. It has no name in a file system:
    it is gone with its last user, however that ends."""
    first = torch.distributed.get_rank() == 0
    descriptor = os.memfd_create("training") if first and hasattr(os, "memfd_create") else -1
    token = secrets.randbits(62)
    try:
        memory = None
        if descriptor >= 0:
            os.ftruncate(descriptor, num_bytes)
            memory = mmap.mmap(descriptor, num_bytes)
            memory[:8] = token.to_bytes(8, "little")
        offer = torch.tensor([os.getpid(), descriptor, token])
        torch.distributed.broadcast(offer, src=0)
        process, number, token = offer.tolist()
        if not first and number >= 0:
            memory = _open(f"/proc/{process}/fd/{number}", num_bytes, token)
        torch.distributed.barrier()  # the others have opened it
        return memory
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _open(name: str, num_bytes: int, token: int) -> mmap.mmap | None:
    try:
        descriptor = os.open(name, os.O_RDWR)
    except OSError:  # another host, or another container
        return None
    try:
        if os.fstat(descriptor).st_size != num_bytes:
            return None
        memory = mmap.mmap(descriptor, num_bytes)
    finally:
        os.close(descriptor)
    return memory if memory[:8] == token.to_bytes(8, "little") else None


def _all_agree(answer: bool) -> bool:
    agreed = torch.tensor(float(answer))
    torch.distributed.all_reduce(agreed, op=torch.distributed.ReduceOp.MIN)
    return bool(agreed)
