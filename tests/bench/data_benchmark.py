"""Heliostat's data stage against datatrove and data-juicer: the same work, in turns, against planted truth.

    python -m tests.bench.data_benchmark [--scale 1] [--repeats 3] [--only dedup filters ...]

Prints tables, writes them as JSON, and ends with 1 if a bar of `bars.py` is missed.
"""

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from tests.bench.bars import Verdict, judge
from tests.bench.corpus import cache_folder
from tests.bench.figures import agreement, bar_figures
from tests.bench.machine import machine
from tests.bench.parts import PARTS
from tests.bench.peers import DATA_JUICER, DATATROVE, Peer, versions_of
from tests.bench.printing import print_tables
from tests.bench.scoring import DedupScore, Share
from tests.bench.session import Job, Session

PEERS = {peer.name: peer for peer in (DATATROVE, DATA_JUICER)}
OUR_DISTRIBUTIONS = ("heliostat", "ray", "numpy", "pyarrow", "tokenizers", "transformers")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for; returns the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    say = lambda line: print(line, flush=True)  # noqa: E731
    peers = [] if options.peers == ["none"] else [PEERS[name] for name in options.peers]
    session = Session(options.scale, options.repeats, peers, say)
    jobs: list[Job] = [job for part in options.only for job in PARTS[part](session)]
    output = Path(options.output) if options.output else cache_folder() / "data-benchmark.json"
    verdicts: list[Verdict] = []
    for _ in session.work_off(jobs):
        verdicts = judge(bar_figures(session.runs), options.scale)
        output.write_text(json.dumps(_report(session, peers, verdicts), indent=1, default=_as_json))
    print_tables(session.runs, verdicts, session.corpus.summary, console)
    say(f"written to {output}")
    missed = [verdict.name for verdict in verdicts if verdict.counts and not verdict.cleared]
    if missed:
        say(f"missed: {', '.join(missed)}")
    failed = [f"{run.part}: {run.tool}" for run in session.runs if run.failure]
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if missed or failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="data_benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 50,000 documents and 150 MB")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each tool, in turns")
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS), help="these parts")
    parser.add_argument("--peers", nargs="+", choices=[*PEERS, "none"], default=list(PEERS))
    parser.add_argument("--output", help="the JSON file; by default in the cache folder")
    return parser


def _report(session: Session, peers: Sequence[Peer], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in OUR_DISTRIBUTIONS},
            **{peer.name: versions_of(peer, session.pythons[peer.name]) for peer in peers},
        },
        "repeats": session.repeats,
        "corpus": session.corpus.summary,
        "bars": [verdict.as_json() for verdict in verdicts],
        "filters_agreement": agreement(session.runs),
        "runs": [run.as_json() for run in session.runs],
    }


def _as_json(value: Any) -> Any:
    if isinstance(value, DedupScore):
        return value.as_json()
    if isinstance(value, Share):
        return {"count": value.count, "of": value.of}
    raise TypeError(f"{type(value).__name__} in the report")


if __name__ == "__main__":
    sys.exit(main())
