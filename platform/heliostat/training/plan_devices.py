"""What machines can do: published peaks of devices, common nodes, and this machine's own measured peak."""

import os
import time
from dataclasses import dataclass

GIB = 2**30
UTILISATION = 0.4
"""Share of a GPU's peak that training reaches: 38 to 43 % in BF16 on H100s (Llama Team, 2024,
arXiv:2407.21783, table 4). Small models and short sequences reach less."""
CPU_UTILISATION = 0.45
"""Measured with SmolLM2-135M in float32 on two cores: 124 tokens/s of 807 MFLOP each, of 225 GFLOP/s."""
USABLE = 0.9
"""Share of a device's memory to plan for; the rest goes to the driver, to NCCL and to fragmentation."""


@dataclass(frozen=True)
class Device:
    """A GPU, or a worker's share of this machine's processors. `tflops` are dense, by precision."""

    name: str
    memory_bytes: int
    tflops: dict[str, float]
    utilisation: float = UTILISATION


@dataclass(frozen=True)
class Node:
    """A machine with some devices of a kind and memory of its own."""

    name: str
    device: Device
    num_devices: int
    host_bytes: int
    has_gpus: bool = True


# Dense peaks from NVIDIA's data sheets, without sparsity; fp32 is that of TF32 off.
H100 = Device("H100 80GB", 80 * 10**9, {"fp32": 67, "bf16": 989, "fp16": 989, "fp8": 1979})
A100_80 = Device("A100 80GB", 80 * 10**9, {"fp32": 19.5, "bf16": 312, "fp16": 312})
A100_40 = Device("A100 40GB", 40 * 10**9, {"fp32": 19.5, "bf16": 312, "fp16": 312})
L40S = Device("L40S 48GB", 48 * 10**9, {"fp32": 91.6, "bf16": 362, "fp16": 362, "fp8": 733})
L4 = Device("L4 24GB", 24 * 10**9, {"fp32": 30.3, "bf16": 121, "fp16": 121, "fp8": 242})

NODES = (
    Node("8x H100 80GB", H100, 8, 2000 * GIB),
    Node("8x A100 80GB", A100_80, 8, 1152 * GIB),
    Node("8x A100 40GB", A100_40, 8, 1152 * GIB),
    Node("1x L40S 48GB", L40S, 1, 128 * GIB),
    Node("1x L4 24GB", L4, 1, 64 * GIB),
)
"""Host memory as clouds give it with these devices."""


def this_machine(cpus_per_worker: float, tflops: float | None = None) -> Node:
    """This machine, its memory shared by as many workers as it has processors for.

    `tflops` is the peak of the whole machine in float32; without it a product of matrices is timed, 0.3 s.
    bfloat16 is taken to be as fast: few processors are faster in it.
    """
    cpus = _num_cpus()
    workers = max(1, int(cpus / cpus_per_worker))
    peak = (tflops if tflops is not None else measure_tflops()) * min(1.0, cpus_per_worker / cpus)
    memory = available_bytes()
    device = Device(
        f"{cpus_per_worker:g} of {cpus} CPUs",
        memory // workers,
        {"fp32": peak, "bf16": peak},
        CPU_UTILISATION,
    )
    return Node("this machine", device, workers, memory, has_gpus=False)


def measure_tflops(seconds: float = 0.3, size: int = 1024) -> float:
    """What all processors reach in products of float32 matrices, in TFLOP/s.

    Counted by processor time: what else runs on the machine meanwhile is no property of it.
    """
    import numpy as np

    left = np.ones((size, size), dtype=np.float32)
    result = left @ left  # the first one starts the threads
    best, spent = float("inf"), 0.0
    while spent < seconds:
        started = time.process_time()
        np.matmul(left, left, out=result)
        taken = time.process_time() - started
        best, spent = min(best, taken), spent + taken
    return 2 * size**3 / best / 1e12 * _num_cpus()


def available_bytes() -> int:
    """Memory of this machine that processes can have now."""
    try:
        with open("/proc/meminfo") as lines:
            kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
        return kilobytes * 1024
    except (OSError, StopIteration):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _num_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
