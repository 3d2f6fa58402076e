"""What serving promises, and the figures that are held against it."""

import math
import operator
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench.bars import Bar

OURS, IN_PROCESS = "heliostat", "openvino-genai in process"
VLLM_SIDES = ("vllm", "vllm bf16")
LLAMA_CPP_SIDE, STATIC, NAIVE = "llama.cpp", "static batch", "naive"
STREAMS = 16
"""The concurrency at which throughput is compared."""
TARGET_QPS, TARGET_SECONDS = 50, 0.5
LENGTHS = (128, 512)

_THROUGHPUT = (
    ("vllm", "vLLM on CPU (the faster of its precisions)", 2.0),
    ("llama_cpp", "llama.cpp's bindings", 3.0),
    ("static", "a static batch", 4.0),
    ("naive", "FastAPI with generate", 10.0),
    ("in_process", "openvino-genai in process", 0.92),
)
BARS: dict[str, Bar] = {
    f"{name}_{length}": Bar(
        f"tokens/s, {STREAMS} streams, prompts of {length}, x {text}", operator.ge, limit, True
    )
    for length in LENGTHS
    for name, text, limit in _THROUGHPUT
} | {
    "first_token_1": Bar("time to first token added at 1 stream, p50 ms", operator.le, 12, True),
    "first_token_8": Bar("time to first token added at 8 streams, p95 ms", operator.le, 30, True),
    "echo_rate": Bar("gateway alone, requests/s", operator.ge, 300, True),
    "echo_p99": Bar("gateway alone, p99 ms", operator.lt, 30, True),
    "exact_p50": Bar("exact hit in the cache, p50 ms", operator.lt, 5, True),
    "semantic_p50": Bar("semantic hit in the cache, p50 ms", operator.lt, 25, True),
    "guard_input": Bar("filters, ms for 1,000 tokens of a request", operator.lt, 3, True),
    "guard_chunk": Bar("filters, ms for a chunk of an answer", operator.lt, 0.3, True),
}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed; nan of none."""
    if not values:
        return math.nan
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def median(rows: Sequence[Mapping[str, Any]], figure: str) -> float:
    """Over the rows; nan of none."""
    found = [row[figure] for row in rows]
    return statistics.median(found) if found else math.nan


def pooled(rows: Sequence[Mapping[str, Any]], figure: str, share: float) -> float:
    """A percentile of all requests of all repeats."""
    return percentile([value for row in rows for value in row[figure]], share)


def rows_of(rows: Sequence[Mapping[str, Any]], part: str, side: str, **where: int) -> list[Mapping[str, Any]]:
    """Those of a part and a side that have these values."""
    return [
        row
        for row in rows
        if row["part"] == part
        and row["side"] == side
        and all(row[name] == value for name, value in where.items())
    ]


def bar_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """A value for each bar whose sides were measured."""
    figures: dict[str, float] = {}
    for length in LENGTHS:
        figures |= _throughput_figures(rows, length)
    figures |= _first_token_figures(rows)
    for row in rows:
        if "bars" in row:  # a part that has no other side beside it says its figures itself
            figures |= row["bars"]
    return {name: value for name, value in figures.items() if not math.isnan(value)}


def _throughput_figures(rows: Sequence[Mapping[str, Any]], length: int) -> dict[str, float]:
    def speed(side: str) -> float:
        those = rows_of(rows, "engines", side, streams=STREAMS, prompt_tokens=length)
        return median(those, "tokens_per_second")

    ours = speed(OURS)
    vllm = max((speed(side) for side in VLLM_SIDES), key=lambda value: -math.inf if value != value else value)
    others = {
        "vllm": vllm,
        "llama_cpp": speed(LLAMA_CPP_SIDE),
        "static": speed(STATIC),
        "naive": speed(NAIVE),
        "in_process": speed(IN_PROCESS),
    }
    return {f"{name}_{length}": ours / other for name, other in others.items()}


def _first_token_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    def added(streams: int, share: float) -> float:
        one, other = (
            pooled(rows_of(rows, "first_token", side, streams=streams), "first_seconds", share)
            for side in (OURS, IN_PROCESS)
        )
        return 1000 * (one - other)

    return {"first_token_1": added(1, 0.5), "first_token_8": added(8, 0.95)}


def cores_for(rows: Sequence[Mapping[str, Any]], cores: int) -> int | None:
    """How many such cores it takes for 50 requests/s with a p99 within 500 ms; None where no concurrency of
    these rows keeps within that.

    The largest of two estimates. From time: what was reached within the limit grows with the cores, one more
    replica each. From work: the CPU seconds of a request, at that concurrency.
    """
    within = [row for row in rows if percentile(row["whole_seconds"], 0.99) <= TARGET_SECONDS]
    if not within:
        return None
    best = max(within, key=lambda row: row["requests_per_second"])
    by_time = cores * TARGET_QPS / best["requests_per_second"]
    by_work = TARGET_QPS * best["cpu_seconds_per_request"]
    return math.ceil(max(by_time, by_work) - 1e-9)
