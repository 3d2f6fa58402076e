"""What work looks like here: small, deterministic tasks that write files and end with their statistics.

A task's statistics are written behind its files, so their presence means that it is done: a retry, or the
next run after a kill, returns them and does nothing. Knows nothing of Ray.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from heliostat.data.config import CleanConfig, DocumentStepConfig
from heliostat.data.documents import Document
from heliostat.data.encoding import Encoder
from heliostat.data.judges import embed_with, score_with
from heliostat.data.served_scoring import served_scorer
from heliostat.data.step_row import Fitted, StepContext
from heliostat.data.steps.perplexity import ModelPerplexity, Scorer, ServedPerplexity
from heliostat.data.steps.topics import Embed, EmbeddingTopicStep
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


class HasScratch(Protocol):
    """What the tasks of one run share."""

    @property
    def scratch(self) -> Storage:
        """Where their files go."""


class TaskOfWork:
    """A task whose files go where those of the others go that share its work."""

    work: HasScratch

    @property
    def scratch(self) -> Storage:
        """Where its files go."""
        return self.work.scratch


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


def encoder_of(model: Artifact) -> Encoder:
    """The tokenizer of a model artifact at work, loaded once in a process."""
    return _load_encoder(artifact_folder(model))


@lru_cache(maxsize=2)
def _load_encoder(folder: Path) -> Encoder:
    from heliostat.models.loading import load_tokenizer

    return Encoder(load_tokenizer(folder))


@dataclass(frozen=True)
class StepModels:
    """The models that steps ask: the one whose tokenizer counts tokens, and judges by their references."""

    counting: Artifact | None = None
    judges: Mapping[str, Artifact] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """What all cleaning tasks of one run of the stage share."""

    config: CleanConfig
    models: StepModels
    scratch: Storage


def context_of(work: Work) -> StepContext:
    """What the steps of a task need; tokenizer and fitted arrays are loaded when a step asks for them."""

    def count(document: Document) -> int:
        assert work.models.counting is not None, "a recipe that counts tokens has a model"
        return encoder_of(work.models.counting).count_tokens([document])[0]

    def fitted(config: DocumentStepConfig) -> Fitted:
        with np.load(BytesIO(work.scratch.read_bytes(fitted_name(config))), allow_pickle=False) as arrays:
            return dict(arrays)

    def embed(config: EmbeddingTopicStep) -> Embed:
        return embed_with(work.models.judges[config.embedder])

    def scorer(config: ModelPerplexity | ServedPerplexity) -> Scorer:
        if isinstance(config, ServedPerplexity):
            return served_scorer(config)
        return score_with(work.models.judges[config.reference], config)

    return StepContext(count, fitted, embed, scorer)


def fitted_name(config: DocumentStepConfig) -> str:
    """The file with what a step learned, from its reference text or from all documents."""
    return f"fitted-{config.kind}-{config.fingerprint()[:12]}.npz"


def arrays_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Named arrays as a file that `StepContext.fitted` reads; never anything to unpickle."""
    sink = BytesIO()
    np.savez(sink, allow_pickle=False, **arrays)
    return sink.getvalue()
