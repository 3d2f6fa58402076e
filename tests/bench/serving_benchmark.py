"""Serving against other servers, and its own gateway, cache and filters, on SmolLM2-135M.

    python -m tests.bench.serving_benchmark [--only PART ...] [--sides SIDE ...] [--streams N ...]

`engines`: our endpoint (INT8, over HTTP, gateway and all) beside openvino-genai in process, vLLM's and
llama.cpp's servers, FastAPI with generate, and a static batch; one side runs at a time, on all cores, in
another order in each repeat. `first_token`: what the way through the gateway adds to the engine's first
token. `gateway`, `cache`, `guard`: each alone. `qps`: short answers at rising concurrency.

All servers are asked by the same load generator, a process of its own. Each request has a prompt of its own,
cut from real text to the exact number of tokens, so that no cache of answers or prefixes helps anybody; every
answer has exactly 64 tokens, as each server counts them, end tokens ignored. Ends with 1 if a bar is missed
or a side failed. About an hour on two cores.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from tests.bench.bars import judge
from tests.bench.corpus import cache_folder
from tests.bench.llama_cpp import LLAMA_CPP
from tests.bench.machine import machine
from tests.bench.peers import Peer, python_of, versions_of
from tests.bench.serving_bars import (
    BARS,
    LENGTHS,
    LLAMA_CPP_SIDE,
    VLLM_SIDES,
    bar_figures,
    cores_for,
)
from tests.bench.serving_engines import (
    SIDES,
    Bench,
    measure_engines,
    measure_first_token,
    vllm_has_bf16,
)
from tests.bench.serving_inputs import Prompts, make_models
from tests.bench.serving_parts import measure_cache, measure_gateway, measure_guard, measure_qps
from tests.bench.serving_peers import VLLM
from tests.bench.serving_printing import print_report

from heliostat.models.loading import load_tokenizer

STREAMS = (1, 4, 16, 32)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for; returns the exit code."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers are to end with it
    console = Console(width=None if sys.stdout.isatty() else 150)
    load_before = os.getloadavg()
    peers = _peers(options) if "engines" in options.only else {}
    models = make_models()
    logs = options.output.parent
    logs.mkdir(parents=True, exist_ok=True)
    bench = Bench(models, Prompts(load_tokenizer(models.original_folder)), logs, _say)
    for part in options.only:
        _PARTS[part](bench, options)
    verdicts = judge(bar_figures(bench.rows), bars=BARS)
    print_report(bench.rows, verdicts, bench.failures, console)
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "load_before": load_before,
        "versions": peers,
        "bars": [verdict.as_json() for verdict in verdicts],
        "failures": bench.failures,
        "cores_for_goal": cores_for([row for row in bench.rows if row["part"] == "qps"], os.cpu_count() or 1),
        "rows": bench.rows,
    }
    options.output.write_text(json.dumps(report, indent=1, default=str))
    print(f"written to {options.output}")
    missed = [verdict for verdict in verdicts if not verdict.cleared]
    return 1 if missed or bench.failures or not verdicts else 0


def _engines(bench: Bench, options: argparse.Namespace) -> None:
    sides = [name for name in SIDES if name in options.sides]
    if not vllm_has_bf16() and VLLM_SIDES[1] in sides:
        sides.remove(VLLM_SIDES[1])
        _say("this processor has no bfloat16, so vLLM is asked in float32 only")
    each = options.requests_per_stream
    measure_engines(bench, sides, options.streams, options.prompt_tokens, options.repeats, each)


_PARTS: dict[str, Callable[[Bench, argparse.Namespace], None]] = {
    "engines": _engines,
    "first_token": lambda bench, options: measure_first_token(bench, options.repeats),
    "gateway": lambda bench, options: measure_gateway(bench, options.repeats),
    "cache": lambda bench, options: measure_cache(bench, options.repeats),
    "guard": lambda bench, options: measure_guard(bench, options.repeats),
    "qps": lambda bench, options: measure_qps(bench),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="serving_benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(_PARTS), default=list(_PARTS), metavar="PART")
    parser.add_argument("--sides", nargs="+", choices=list(SIDES), default=list(SIDES), metavar="SIDE")
    parser.add_argument("--streams", nargs="+", type=int, default=list(STREAMS))
    parser.add_argument("--prompt-tokens", nargs="+", type=int, default=list(LENGTHS))
    parser.add_argument("--requests-per-stream", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=cache_folder() / "serving-benchmark.json")
    return parser


def _peers(options: argparse.Namespace) -> dict[str, Any]:
    """The versions compared with; environments that are missing are made before anything is measured."""
    wanted: list[Peer] = []
    if set(options.sides) & set(VLLM_SIDES):
        wanted.append(VLLM)
    if LLAMA_CPP_SIDE in options.sides:
        wanted.append(LLAMA_CPP)
    ours = ("openvino-genai", "transformers", "torch", "fastapi", "ray")
    from importlib.metadata import version

    found: dict[str, Any] = {"heliostat": {name: version(name) for name in ours}}
    return found | {peer.name: versions_of(peer, python_of(peer)) for peer in wanted}


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
