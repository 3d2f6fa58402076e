"""Steps of a training run, timed from outside: each when its line appears in the file the run keeps.

So every tool is held to the same clock, and all that lies between two steps counts: reports, metrics and
logs, and not only what a tool calls its step.
"""

import itertools
import json
import math
import os
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.measure import CommandFailed

from heliostat.tracking import read_metrics

Entries = list[dict[str, Any]]
POLL_SECONDS = 0.05
TRAINER_LOG, TRAINER_STATE = "trainer_log.jsonl", "trainer_state.json"


@dataclass(frozen=True)
class Steps:
    """What a run came to: the loss of each step, and when it was done (by `time.monotonic`)."""

    losses: tuple[float, ...]
    arrivals: tuple[float, ...]

    @property
    def seconds(self) -> list[float]:
        """How long each step took; nan for the first, before which the run got ready."""
        return [math.nan, *(later - earlier for earlier, later in itertools.pairwise(self.arrivals))]

    def rate(self, tokens: Sequence[int], warm_up: int) -> float:
        """Tokens a second over all steps behind the first `warm_up`, of which the run has at least one.

        Not the median over the steps: lines that come late, two at a time, would flatter it. The last step
        is left out, as a run ends in it: it saves what it has trained.
        """
        first, last = max(1, warm_up), len(self.arrivals) - 1
        if last <= first:
            return math.nan
        return sum(tokens[first:last]) / (self.arrivals[last - 1] - self.arrivals[first - 1])


def stop_seconds(seconds: Sequence[float], every_steps: int) -> list[float]:
    """How much longer training took around each checkpoint: in the step it was kept at and the next one, in
    which it may still be written, over two of the others. `seconds` are the steps' own, in order.

    The first step has no time and the last checkpoint ends the run: both are left out.
    """
    numbers = range(1, len(seconds) + 1)
    kept = [number for number in numbers if number % every_steps == 0 and number + 1 < len(seconds)]
    around = {number + shift for number in kept for shift in (0, 1)}
    plain = statistics.median(
        seconds[number - 1] for number in numbers if 1 < number < len(seconds) and number not in around
    )
    return [seconds[number - 1] + seconds[number] - 2 * plain for number in kept]


def read_ours(workspace: Path) -> Entries:
    """The metrics of the only training run of a workspace, as far as it has come."""
    runs = list((workspace / "runs").glob("train-*"))
    return read_metrics(runs[0]) if runs else []


def read_trainer_log(folder: Path) -> Entries:
    """LLaMA-Factory's log: `step` and `loss` of each step; the summary at its end has none, and is left out.

    The losses of a run that has ended are read from its trainer's state, where they are not rounded.
    """
    file = folder / TRAINER_LOG
    entries = []
    for line in file.read_text().splitlines() if file.exists() else ():
        with suppress(json.JSONDecodeError):  # the last line may not be there as a whole
            entry = json.loads(line)
            if "loss" in entry:
                entries.append({"step": entry["current_steps"], "loss": entry["loss"]})
    return entries


def read_trainer_state(folder: Path) -> Entries:
    """`step` and `loss` of each step from the state that transformers' trainer leaves at the end."""
    history = json.loads((folder / TRAINER_STATE).read_text())["log_history"]
    return [{"step": entry["step"], "loss": entry["loss"]} for entry in history if "loss" in entry]


def follow(
    command: Sequence[str | Path],
    read: Callable[[], Entries],
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Steps:
    """Run a command to its end and time the entries that `read` finds meanwhile.

    Raises:
        CommandFailed: it ended with another code than 0, or left no steps.
    """
    arrivals: list[float] = []
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        over = threading.Event()
        watcher = threading.Thread(target=_watch, args=(read, arrivals, over), daemon=True)
        watcher.start()
        try:
            process.wait()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            over.set()
            watcher.join()
    entries = read()
    if process.returncode or not entries:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise CommandFailed(f"{command[0]} ended with {process.returncode}; the end of {log}:\n{tail}")
    return Steps(tuple(entry["loss"] for entry in entries), tuple(arrivals[: len(entries)]))


def _watch(read: Callable[[], Entries], arrivals: list[float], over: threading.Event) -> None:
    while True:
        last_look = over.is_set()
        arrivals += [time.monotonic()] * (len(read()) - len(arrivals))
        if last_look:
            return
        over.wait(POLL_SECONDS)
