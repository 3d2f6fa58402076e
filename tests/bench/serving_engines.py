"""The engines part: tokens a second, times and cost of every side, one after the other, and again."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.serving_bars import IN_PROCESS, LLAMA_CPP_SIDE, NAIVE, OURS, STATIC, STREAMS, VLLM_SIDES
from tests.bench.serving_inputs import Models, Prompts
from tests.bench.serving_processes import SideFailed
from tests.bench.serving_sides import (
    Cell,
    CellRun,
    Running,
    serve_in_process,
    serve_llama_cpp,
    serve_naive,
    serve_ours,
    serve_static_batch,
    serve_vllm,
)

MAX_TOKENS = 64
PAUSE_SECONDS = 2.0
FIRST_TOKEN_CELLS = ((1, 16), (8, 32))
"""Streams, and requests: enough for a p95."""

Serve = Callable[[Models, int, Path], AbstractContextManager[Running]]


@dataclass(frozen=True)
class Side:
    """How one is served, and at which concurrency it is asked; None is all."""

    serve: Serve
    streams: Callable[[int], bool] = lambda streams: True


SIDES: dict[str, Side] = {
    OURS: Side(serve_ours),
    IN_PROCESS: Side(serve_in_process),
    VLLM_SIDES[0]: Side(serve_vllm),
    VLLM_SIDES[1]: Side(partial(serve_vllm, dtype="bfloat16")),
    LLAMA_CPP_SIDE: Side(serve_llama_cpp),
    STATIC: Side(serve_static_batch, lambda streams: streams == STREAMS),
    NAIVE: Side(serve_naive, lambda streams: streams <= STREAMS),
}
"""The naive server is as fast at 32 streams as at 16, only later: one request at a time."""


@dataclass
class Bench:
    """What is measured with, and the rows that came of it."""

    models: Models
    prompts: Prompts
    logs: Path
    say: Callable[[str], None] = print
    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def measure(self, running: Running, where: dict[str, Any], cell: Cell) -> None:
        """Ask once and keep the row."""
        row = {**where, "streams": cell.streams, "prompt_tokens": cell.prompt_tokens}
        row |= figures_of(running.run(cell))
        self.rows.append(row)
        self.say(
            f"{row['part']}, {row['side']}, repeat {row['repeat']}: {cell.streams} streams, prompts of "
            f"{cell.prompt_tokens}: {row['tokens_per_second']:.1f} tokens/s"
        )

    def warm_up(self, running: Running) -> None:
        """What a first request costs is nobody's figure."""
        for length in (32, 128):
            running.run(Cell(4, length, MAX_TOKENS, tuple(self.prompts.take(4, length))))

    def log(self, side: str) -> Path:
        """Where a side's output goes."""
        return self.logs / f"serving-{side.replace(' ', '-')}.log"


def vllm_has_bf16() -> bool:
    """Whether this processor multiplies in bfloat16; elsewhere vLLM would emulate it."""
    flags = Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def measure_engines(
    bench: Bench,
    sides: Sequence[str],
    streams: Sequence[int],
    lengths: Sequence[int],
    repeats: int,
    each: int,
) -> None:
    """All sides at every concurrency and length, `repeats` times, in another order each time.

    `each` is the number of requests a stream. In one repeat all sides get the same prompts; no two repeats,
    and no two requests of one, get the same.
    """
    for repeat in range(repeats):
        cells = [
            Cell(count, length, MAX_TOKENS, tuple(bench.prompts.take(count * each, length)))
            for length in lengths
            for count in streams
        ]
        for name in rotated(sides, repeat):
            asked = [cell for cell in cells if SIDES[name].streams(cell.streams)]
            with attempted(bench, name):
                _measure_side(bench, "engines", name, asked, repeat)


def measure_first_token(bench: Bench, repeats: int) -> None:
    """The time to the first token of our endpoint and of the engine in process."""
    for repeat in range(repeats):
        cells = [
            Cell(streams, 128, MAX_TOKENS, tuple(bench.prompts.take(count, 128)))
            for streams, count in FIRST_TOKEN_CELLS
        ]
        for name in rotated((OURS, IN_PROCESS), repeat):
            with attempted(bench, name):
                _measure_side(bench, "first_token", name, cells, repeat)


def _measure_side(bench: Bench, part: str, name: str, cells: Sequence[Cell], repeat: int) -> None:
    if not cells:
        return
    most = max(cell.streams for cell in cells)
    with SIDES[name].serve(bench.models, most, bench.log(name)) as running:
        bench.warm_up(running)
        for cell in cells:
            bench.measure(running, {"part": part, "side": name, "repeat": repeat}, cell)
    time.sleep(PAUSE_SECONDS)


@contextmanager
def attempted(bench: Bench, name: str) -> Iterator[None]:
    """A block in which a side may fail: that is noted, and the others go on."""
    try:
        yield
    except SideFailed as error:
        bench.failures.append(f"{name}: {error}")
        bench.say(f"FAILED {name}: {error}")


def rotated(names: Sequence[str], by: int) -> Iterator[str]:
    """All of them, beginning with another each time."""
    return (names[(at + by) % len(names)] for at in range(len(names)))


def figures_of(run: CellRun) -> dict[str, Any]:
    """Rates from the first request's start to the last one's end; the times of each request; cost."""
    samples = run.samples
    wall = max(sample.ended for sample in samples) - min(sample.sent for sample in samples)
    tokens = sum(sample.completion_tokens for sample in samples)
    return {
        "requests": len(samples),
        "wall_seconds": wall,
        "tokens_per_second": tokens / wall,
        "requests_per_second": len(samples) / wall,
        "first_seconds": [sample.first - sample.sent for sample in samples],
        "whole_seconds": [sample.ended - sample.sent for sample in samples],
        "cpu_seconds_per_token": run.cpu_seconds / tokens if tokens else 0.0,
        "cpu_seconds_per_request": run.cpu_seconds / len(samples),
        "peak_bytes": run.peak_bytes,
        "counted_prompt_tokens": sorted({sample.prompt_tokens for sample in samples}),
    }
