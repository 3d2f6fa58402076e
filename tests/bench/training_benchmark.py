"""Heliostat's training against a bare DeepSpeed loop and LLaMA-Factory: the same model, rows and steps.

    python -m tests.bench.training_benchmark [--repeats 3] [--steps 10] [--only overhead checkpoint ...]

Prints tables, writes them as JSON, and ends with 1 if a bar of `training_bars.py` is missed.
"""

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from tests.bench.bars import Verdict, judge
from tests.bench.corpus import cache_folder
from tests.bench.machine import machine
from tests.bench.peers import LLAMA_FACTORY, versions_of
from tests.bench.session import Job
from tests.bench.training_bars import MATERIALS, TRAINING_BARS, print_training, training_figures
from tests.bench.training_parts import PARTS
from tests.bench.training_session import Options, TrainingSession

OUR_DISTRIBUTIONS = ("heliostat", "ray", "torch", "deepspeed", "transformers", "peft")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for; returns the exit code."""
    asked = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended, too
    console = Console(width=None if sys.stdout.isatty() else 120)
    say = lambda line: print(line, flush=True)  # noqa: E731
    peers = [LLAMA_FACTORY] if "llama-factory" in asked.only else []
    options = Options(
        asked.steps, asked.length, asked.conversations, asked.zero_stage, tuple(asked.materials)
    )
    session = TrainingSession(options, asked.repeats, peers, say)
    jobs: list[Job] = [job for part in asked.only for job in PARTS[part](session)]
    output = Path(asked.output) if asked.output else cache_folder() / "training-benchmark.json"
    verdicts: list[Verdict] = []
    for _ in session.work_off(jobs):
        verdicts = judge(training_figures(session.runs), bars=TRAINING_BARS)
        output.write_text(json.dumps(_report(session, verdicts), indent=1))
    print_training(session.runs, verdicts, console)
    say(f"written to {output}")
    missed = [verdict.name for verdict in verdicts if not verdict.cleared]
    if missed:
        say(f"missed: {', '.join(missed)}")
    failed = [f"{run.part}: {run.tool}" for run in session.runs if run.failure]
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if missed or failed else 0


def _parser() -> argparse.ArgumentParser:
    defaults = Options()
    parser = argparse.ArgumentParser(prog="training_benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), help="these parts")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each tool, in turns")
    parser.add_argument(
        "--steps",
        type=int,
        default=defaults.steps,
        help="of each run; the first two and the last do not count",
    )
    parser.add_argument("--length", type=int, default=defaults.length, help="tokens in a row of long text")
    parser.add_argument(
        "--conversations",
        type=int,
        default=defaults.conversations,
        help="in a row of short instructions, and the peer's micro batch",
    )
    parser.add_argument("--zero-stage", type=int, default=defaults.zero_stage, choices=(0, 1, 2, 3))
    parser.add_argument(
        "--materials",
        nargs="+",
        choices=list(MATERIALS),
        default=list(MATERIALS),
        help="what is read beside LLaMA-Factory",
    )
    parser.add_argument("--output", help="the JSON file; by default in the cache folder")
    return parser


def _report(session: TrainingSession, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    peers = {name: versions_of(LLAMA_FACTORY, python) for name, python in session.pythons.items()}
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in OUR_DISTRIBUTIONS},
            **peers,
        },
        "load": os.getloadavg(),
        "repeats": session.repeats,
        "options": asdict(session.options),
        "bars": [verdict.as_json() for verdict in verdicts],
        "runs": [run.as_json() for run in session.runs],
    }


if __name__ == "__main__":
    sys.exit(main())
