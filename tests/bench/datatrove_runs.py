"""Datatrove's side: runs `datatrove_runner.py` in datatrove's own environment."""

import gzip
import json
from pathlib import Path
from typing import Any

from tests.bench.measure import Usage
from tests.bench.peers import DATATROVE
from tests.bench.session import Session

_RUNNER = Path(__file__).with_name("datatrove_runner.py")


def run_datatrove(session: Session, work: str, shards: Path, output: Path, *further: str) -> Usage:
    """Do one of the runner's works over a folder of shards."""
    command = [session.pythons[DATATROVE.name], "-P", _RUNNER, work, shards, output, *further]
    return session.measure(f"{work}-datatrove", command)


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """The rows of all jsonl files of a folder, packed ones included."""
    rows: list[dict[str, Any]] = []
    for file in sorted(folder.glob("*.jsonl*")):
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        rows += map(json.loads, data.splitlines())
    return rows
