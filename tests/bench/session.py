"""A benchmark in progress: its corpora, its peers, the runs made so far, and how long is left."""

import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.corpus import Corpus, build_corpus, cache_folder
from tests.bench.corpus_contents import Say
from tests.bench.measure import CommandFailed, Disturbance, Usage, run_measured
from tests.bench.peers import Peer, python_of

OURS = "heliostat"


@dataclass(frozen=True)
class Run:
    """One measured run of one tool: what it took, and what it came to."""

    part: str
    tool: str
    usage: Usage | None
    figures: dict[str, Any] = field(default_factory=dict)
    failure: str = ""

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        usage = self.usage.as_json() if self.usage else {}
        failure = {"failure": self.failure} if self.failure else {}
        return {"part": self.part, "tool": self.tool, **usage, **self.figures, **failure}


@dataclass(frozen=True)
class Tool:
    """What runs a tool once, given the session and the tool's name, and about how long it takes."""

    name: str
    work: Callable[["Session", str], Run]
    seconds: float


@dataclass(frozen=True)
class Job:
    """A run to come: what does it, and about how many seconds that takes."""

    part: str
    tool: str
    work: Callable[[], Run]
    seconds: float


def runs_of(runs: Iterable[Run], part: str, tool: str) -> list[Run]:
    """The runs of a tool in a part that came to an end."""
    return [run for run in runs if (run.part, run.tool) == (part, tool) and not run.failure]


def in_turns(session: "Session", part: str, tools: Sequence[Tool]) -> list[Job]:
    """All tools once, then again: what changes on the machine over time meets all alike."""
    return [
        Job(part, tool.name, partial(tool.work, session, tool.name), tool.seconds)
        for _ in range(session.repeats)
        for tool in tools
    ]


class Benchmark:
    """Runs of several tools in turns. Everything that it writes lies below the cache folder."""

    def __init__(self, folder: str, repeats: int, peers: Sequence[Peer], say: Say) -> None:
        self.repeats, self.say = repeats, say
        self.runs: list[Run] = []
        self.folder = cache_folder() / folder
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.pythons: dict[str, Path] = {peer.name: python_of(peer, say) for peer in peers}

    def fresh(self, name: str) -> Path:
        """A folder that is not there yet."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def work_off(self, jobs: Sequence[Job]) -> Iterator[Run]:
        """Do the jobs in their order, with a line for each that says how long is left; yields the run each
        came to. One that fails is a run with a `failure`, and the next begins: hours are not lost with it."""
        for number, job in enumerate(jobs):
            left = sum(self._estimate(later) for later in jobs[number:])
            ends = (datetime.now() + timedelta(seconds=left)).strftime("%H:%M")
            load = os.getloadavg()[0]
            busy = f"; load {load:.1f} before it: not alone" if load > 1.5 and not number else ""
            self.say(
                f"[{number + 1}/{len(jobs)}] {job.part}: {job.tool}, about "
                f"{_clock(self._estimate(job))}; all done about {ends}{busy}"
            )
            started = time.monotonic()
            try:
                self.runs.append(job.work())
            except CommandFailed as error:
                self.runs.append(Run(job.part, job.tool, None, failure=str(error)))
                self.say(f"    failed: {error}")
            self.say(f"    took {_clock(time.monotonic() - started)}")
            yield self.runs[-1]

    def _estimate(self, job: Job) -> float:
        taken = [run.usage.wall_seconds for run in runs_of(self.runs, job.part, job.tool) if run.usage]
        return statistics.median(taken) + 3 if taken else job.seconds


class Session(Benchmark):
    """What the parts of the data benchmark share."""

    def __init__(self, scale: float, repeats: int, peers: Sequence[Peer], say: Say) -> None:
        super().__init__("runs", repeats, peers, say)
        self.scale = scale
        self.corpus: Corpus = build_corpus(scale, say=say)
        self.megabytes = self.corpus.summary["bytes"] / 1e6

    def measure(
        self, name: str, command: Sequence[str | Path], disturbance: Disturbance | None = None
    ) -> Usage:
        """Run a command, its output in a log that is named after it."""
        environment = {
            "RAY_USAGE_STATS_ENABLED": "0",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        return run_measured(command, self.folder / f"{name}.log", environment, disturbance)

    @property
    def shards(self) -> Path:
        """The folder of the corpus's files."""
        return self.corpus.folder / "shards"

    def result_of(self, command: Sequence[str | Path]) -> dict[str, Any]:
        """What a command prints, as JSON.

        Raises:
            CommandFailed: it ended with another code than 0.
        """
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        if done.returncode:
            raise CommandFailed(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
