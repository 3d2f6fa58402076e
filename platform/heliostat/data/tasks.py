"""What work looks like here: small, deterministic tasks that write files and end with their statistics.

A task's statistics are written behind its files, so their presence means that it is done: a retry, or the
next run after a kill, returns them and does nothing. Knows nothing of Ray.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from heliostat.data.config import CleanConfig
from heliostat.data.documents import Document
from heliostat.data.encoding import count_tokens
from heliostat.records import Artifact
from heliostat.storage import Storage, artifact_folder

Statistics = dict[str, Any]


class Task(Protocol):
    """A unit of work. Two runs of it write the same bytes under the same names."""

    @property
    def name(self) -> str:
        """Unique among the tasks that share a scratch folder."""

    @property
    def scratch(self) -> Storage:
        """Where its files go; all nodes reach it."""

    def make(self) -> Statistics:
        """Do the work, write the files, return what to know about them (JSON values)."""


Runner = Callable[[Sequence[Task], str], Iterator[Statistics]]
"""Runs tasks in any order and yields their statistics as they finish; the text says what is going on."""


def run_task(task: Task) -> Statistics:
    """Do a task, or find that it was done; adds its `name` to the statistics."""
    record = f"{task.name}.json"
    if task.scratch.exists(record):
        return dict(json.loads(task.scratch.read_bytes(record)))
    statistics = task.make() | {"name": task.name}
    task.scratch.write_bytes(record, json.dumps(statistics).encode())
    return statistics


def collect(scratch: Storage, names: Sequence[str], folder: Path) -> None:
    """Copy files of finished tasks into the folder of an artifact."""
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(scratch.read_bytes(name))


def tokenizer_of(model: Artifact) -> Any:
    """The tokenizer of a model artifact, loaded once in a process."""
    return _load_tokenizer(artifact_folder(model))


@lru_cache(maxsize=2)
def _load_tokenizer(folder: Path) -> Any:
    from heliostat.models.loading import load_tokenizer

    return load_tokenizer(folder)


def counter_of(config: CleanConfig, model: Artifact) -> Callable[[Document], int]:
    """How the cleaning steps count tokens; the tokenizer is loaded only when one of them does."""

    def count(document: Document) -> int:
        return count_tokens([document], tokenizer_of(model))[0]

    return count
