"""Electricity and memory while a model works, by codecarbon's method: metered where it can be.

Processor: Intel's RAPL counters where they can be read; else thermal design power times the share of the
machine's processors that was busy in this process. Memory: 3 W for each 8 GB that are in use. CO2 is the
energy times the grid's grams a kWh. Courty et al., codecarbon 2.x, "Methodology".
"""

import os
import time
from pathlib import Path
from typing import Self

RAPL = Path("/sys/class/powercap")
MEMORY_WATTS_PER_BYTE = 3 / (8 * 2**30)
JOULES_PER_KWH = 3.6e6


class Meter:
    """Measures what happens inside the block; `figures` then holds it, or nothing without `tdp_watts`."""

    def __init__(self, tdp_watts: float | None, rapl: Path = RAPL) -> None:
        """`tdp_watts` is the thermal design power of the machine's processors together."""
        self._tdp_watts = tdp_watts
        self._rapl = rapl
        self.figures: dict[str, float] = {}

    def __enter__(self) -> Self:
        """Start."""
        self._started, self._cpu = time.monotonic(), time.process_time()
        self._joules = _rapl_joules(self._rapl)
        return self

    def __exit__(self, *ended: object) -> None:
        """Stop."""
        if self._tdp_watts is None:
            return
        import psutil

        seconds, busy = time.monotonic() - self._started, time.process_time() - self._cpu
        memory = float(psutil.Process().memory_info().rss)
        joules = _rapl_joules(self._rapl)
        if joules is not None and self._joules is not None and joules >= self._joules:  # it wraps around
            processor = joules - self._joules
        else:
            processor = self._tdp_watts * busy / (os.cpu_count() or 1)
        energy = processor + memory * MEMORY_WATTS_PER_BYTE * seconds
        self.figures = {"cpu_seconds": busy, "memory_bytes": memory, "kwh": energy / JOULES_PER_KWH}


def _rapl_joules(folder: Path) -> float | None:
    """What all processor packages together have used; None where it cannot be read."""
    try:
        files = sorted(folder.glob("intel-rapl:[0-9]*/energy_uj"))
        return sum(int(file.read_text()) for file in files) / 1e6 if files else None
    except (OSError, ValueError):  # the kernel lets only root read it
        return None
