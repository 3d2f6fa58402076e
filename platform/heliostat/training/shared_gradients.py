"""Gradients of CPU workers on one host, added up in memory that they share.

DeepSpeed copies all gradients into buckets and sends these through gloo's sockets, also between processes
that sit beside each other. Here every worker has a slot in one shared memory. The backward pass puts each
gradient there as soon as it is whole; at the end each worker adds up its part of all slots, always in the
order of the workers, so that all of them read the same numbers, the same in each run.
"""

import mmap
import os
import secrets
from collections.abc import Iterable
from typing import Self

import torch
import torch.distributed

FLOAT = 4
HEADER = 64
"""Bytes in front of the slots: a number that tells whether it is the right memory."""
CHUNK = 1 << 18
"""Numbers that are added up at a time: few enough for a processor's cache."""


class SharedGradients:
    """One worker's slot, and the sum of all.

    After `average` each parameter's `.grad` is a piece of memory that all workers read: only `scale` may
    change it. The next backward pass writes to that memory again, so a collective has to come between it and
    the last use of `.grad`, such as the optimizer's step.
    """

    @classmethod
    def join(cls, parameters: Iterable[torch.nn.Parameter]) -> Self | None:
        """Share with all other workers, who call this, too, with the same parameters.

        None where that cannot be, on all workers alike: they are on several hosts, or have parameters that
        are not float32 on a CPU.
        """
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        if not _all_agree(all(each.dtype == torch.float32 and not each.is_cuda for each in trained)):
            return None
        num_workers = torch.distributed.get_world_size()
        memory = _shared_memory(HEADER + FLOAT * num_workers * sum(each.numel() for each in trained))
        if not _all_agree(memory is not None) or memory is None:
            return None
        numbers = torch.frombuffer(memory, dtype=torch.float32, offset=HEADER)
        return cls(trained, list(numbers.chunk(num_workers)), torch.distributed.get_rank())

    def __init__(self, parameters: list[torch.nn.Parameter], slots: list[torch.Tensor], rank: int) -> None:
        """Take each gradient from the backward passes from now on. `slots`: a flat one of each worker."""
        self._parameters = parameters
        self._slots = slots
        self._part = _part_of(slots[0], rank, len(slots))
        own, total = slots[rank], slots[0]
        self._own: dict[torch.nn.Parameter, torch.Tensor] = {}
        self._total: dict[torch.nn.Parameter, torch.Tensor] = {}
        begin = 0
        for parameter in parameters:
            end = begin + parameter.numel()
            self._own[parameter] = own[begin:end].view(parameter.shape)
            self._total[parameter] = total[begin:end].view(parameter.shape)
            begin = end
            parameter.register_post_accumulate_grad_hook(self._take)
        self._taken: set[torch.nn.Parameter] = set()

    def average(self) -> None:
        """Give each parameter the mean of all workers' gradients; one without any has zeros."""
        for parameter in self._parameters:
            if parameter not in self._taken:
                self._own[parameter].zero_()
        self._taken.clear()
        torch.distributed.barrier()
        parts = [slot[self._part].split(CHUNK) for slot in self._slots]
        for total, *others in zip(*parts, strict=True):
            for other in others:
                total.add_(other)
            total.mul_(1 / len(self._slots))
        torch.distributed.barrier()
        for parameter in self._parameters:
            parameter.grad = self._total[parameter]

    def scale(self, factor: float) -> None:
        """Multiply all gradients; every worker calls it with the same factor, after all have read them."""
        torch.distributed.barrier()
        self._slots[0][self._part].mul_(factor)
        torch.distributed.barrier()

    def _take(self, parameter: torch.nn.Parameter) -> None:
        """Move a fresh gradient to the slot, or add it to that of the micro batches before."""
        assert parameter.grad is not None, "torch calls this after it was accumulated"
        if parameter in self._taken:
            self._own[parameter].add_(parameter.grad)
        else:
            self._own[parameter].copy_(parameter.grad)
            self._taken.add(parameter)
        parameter.grad = None


def _part_of(slot: torch.Tensor, rank: int, num_workers: int) -> slice:
    size = -(-slot.numel() // num_workers)
    return slice(rank * size, min((rank + 1) * size, slot.numel()))


def _shared_memory(num_bytes: int) -> mmap.mmap | None:
    """The same memory on all workers, or None on those that cannot have it. It has no name in a file system:
    it is gone with its last user, however that ends."""
    first = torch.distributed.get_rank() == 0
    descriptor = os.memfd_create("gradients") if first and hasattr(os, "memfd_create") else -1
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
