"""How well a worker uses its machine: processor and memory in use, and the model's share of its peak.

torch is imported inside the functions.
"""

import ctypes
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

CGROUP = Path("/sys/fs/cgroup")
CPU_MATRIX, GPU_MATRIX = 1024, 8192
"""Rows of the matrices whose product is timed: 10 ms of a two-core CPU, 2 ms of a large GPU."""


class ProcessUsage:
    """This process's use of its machine, from one call to the next."""

    def __init__(self, use_gpu: bool = False) -> None:
        """Starts to count."""
        self._use_gpu = use_gpu
        self._process = psutil.Process()
        self._process.cpu_percent()

    def metrics(self) -> dict[str, float]:
        """What is in use now; processor time since the last call.

        `cpu_cores_used` (2.0 is two cores), `memory_bytes` (resident), `memory_share` (all of the machine's,
        or of the container's, limit in use by anybody: what an out-of-memory kill goes by). With a GPU
        also `gpu_memory_bytes` (the most since the last call), `gpu_memory_share` of the device, and
        `gpu_utilization` (share of the last moments with a kernel running) where NVIDIA's library is there.
        """
        found = {
            "cpu_cores_used": self._process.cpu_percent() / 100,
            "memory_bytes": float(self._process.memory_info().rss),
            "memory_share": memory_share(),
        }
        return found | (_gpu_metrics() if self._use_gpu else {})


def keep_freed_memory() -> bool:
    """Let glibc keep what a step frees for the next step, which needs the same again; True where it does.

    By default it gives large blocks back to the system, which then has to fill every page of them with zeros
    when they are asked for again: some 4 % of a step on a CPU. Holds for a thread whose memory comes from the
    main arena, for all threads with MALLOC_ARENA_MAX=1.
    """
    trim_threshold, mmap_max = -1, -4  # malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(mmap_max, 0)) and bool(mallopt(trim_threshold, 2**31 - 1))


def memory_share(cgroup: Path = CGROUP) -> float:
    """The share of the memory this process may use that is in use: the container's limit, or the machine's.

    A container's file cache is left out, as it gives way.
    """
    machine = psutil.virtual_memory()
    share = float(1 - machine.available / machine.total)
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        cache = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return max(share, (used - int(cache["inactive_file"])) / limit)
    except (OSError, ValueError, KeyError):  # "max": no limit; or no control groups of the second version
        return share


def _gpu_metrics() -> dict[str, float]:
    import torch

    free, total = torch.cuda.mem_get_info()
    found = {
        "gpu_memory_bytes": float(torch.cuda.max_memory_allocated()),
        "gpu_memory_share": 1 - free / total,
    }
    torch.cuda.reset_peak_memory_stats()
    with suppress(ImportError, RuntimeError):  # nvidia-ml-py is not installed, or the driver says nothing
        found["gpu_utilization"] = torch.cuda.utilization() / 100
    return found


@lru_cache(maxsize=4)
def measured_peak(device: str = "cpu", dtype: str = "float32", seconds: float = 0.3) -> float:
    """Floating-point operations a second of a square matrix product on this worker's device, now.

    The best of as many products as fit in `seconds`; measured once a process. What a data sheet promises is
    more: this is what a layer could get at best, with the threads and the neighbours this worker has.

    Args:
        device: a torch device, `cuda:0`.
        dtype: the name of the torch dtype that the model computes in.
        seconds: how long to measure.
    """
    import torch

    on_gpu = device.startswith("cuda")
    size = GPU_MATRIX if on_gpu else CPU_MATRIX
    matrix = torch.ones(size, size, device=device, dtype=getattr(torch, dtype))
    best, deadline = 0.0, 0.0
    with torch.no_grad():
        matrix @ matrix  # the first product loads the library
        if on_gpu:
            torch.cuda.synchronize(device)
        deadline = time.perf_counter() + seconds
        while not best or time.perf_counter() < deadline:
            started = time.perf_counter()
            matrix @ matrix
            if on_gpu:
                torch.cuda.synchronize(device)
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


@dataclass(frozen=True)
class ModelShape:
    """What decides how much arithmetic a token costs."""

    num_parameters: int
    """Weights that a token meets in a matrix product: all but the embeddings it is looked up in; of a
    mixture's experts only those it is sent to."""
    num_trained: int
    """Those of them that are trained."""
    num_layers: int
    attention_size: int
    """Heads times the size of a head; mostly the hidden size."""

    def flops_per_token(self, sequence_length: float) -> float:
        """Operations for one token of training: 6N + 12Ld s where all is trained (PaLM, Chowdhery et al.,
        2022, arXiv:2204.02311, appendix B).

        The forward pass takes 2N. The backward pass takes 2N for the gradients of the activations and 2N for
        those of the weights. Frozen weights have no gradients of their own but pass on those of the
        activations, down to the lowest layer that is trained: so an adapter in all layers leaves
        4N + 2 N_trained. Attention has no weights and keeps all of its 12Ld s. Computing activations again
        is no work for the model and does not count. Where only top layers are trained this is too much.

        Args:
            sequence_length: tokens that attend to each other: the mean length of the packed documents.
        """
        attention = 12 * self.num_layers * self.attention_size * sequence_length
        return 4 * self.num_parameters + 2 * self.num_trained + attention


def shape_of(model: Any) -> ModelShape:
    """The shape of a transformers or PEFT model, before DeepSpeed splits its parameters.

    A mixture's experts are what lies in a module called `experts`; a token is sent to `num_experts_per_tok`
    of `num_experts` or `num_local_experts`, as its config says.
    """
    config = model.config
    looked_up = {id(parameter) for parameter in model.get_input_embeddings().parameters()}
    if getattr(config, "tie_word_embeddings", False):
        looked_up = set()  # the same matrix is the head
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    active = getattr(config, "num_experts_per_tok", 1) / experts if experts else 1.0
    sizes = [
        (parameter.numel() * (active if ".experts." in f".{name}" else 1.0), parameter.requires_grad)
        for name, parameter in model.named_parameters()
        if id(parameter) not in looked_up
    ]
    heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return ModelShape(
        num_parameters=round(sum(size for size, _ in sizes)),
        num_trained=round(sum(size for size, trained in sizes if trained)),
        num_layers=config.num_hidden_layers,
        attention_size=heads * head_size,
    )


def model_flops_utilization(
    shape: ModelShape, tokens_per_second: float, sequence_length: float, peaks: float
) -> float:
    """The share of the devices' peak that the model's own arithmetic reaches (MFU), 0 to 1.

    Args:
        shape: the model's.
        tokens_per_second: over all workers.
        sequence_length: tokens that attend to each other, on average.
        peaks: operations a second, summed over all workers: their `measured_peak`, or a data sheet's.
    """
    return shape.flops_per_token(sequence_length) * tokens_per_second / peaks
