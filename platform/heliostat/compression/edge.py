"""Where compression meets Ray: the work and the scoring of the original run side by side.

Every kind writes a folder and is then scored like the original, on the same tokens. Writing keeps about one
core busy whatever it is given, so the other one scores the original meanwhile.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliostat.compression import kinds
from heliostat.compression.config import CompressStep
from heliostat.compression.decoding_speed import tokens_per_second
from heliostat.compression.gate import check_gate, folder_bytes, weight_bytes
from heliostat.compression.kinds import Material
from heliostat.compression.steps import Partly
from heliostat.models.perplexity import Limits, Score, running_score, tokens_within
from heliostat.progress import Report, progress
from heliostat.ray_tasks import FileChunk, chunks_of, stream, streaming_task
from heliostat.records import Artifact
from heliostat.storage import artifact_folder
from heliostat.tokenized import TokenizedDataset


@dataclass(frozen=True)
class CompressionJob:
    """What both tasks work on."""

    config: CompressStep
    model: Artifact
    dataset: Artifact
    others: tuple[Artifact, ...] = ()

    def limits(self, share: float) -> Limits:
        """How the model is scored with a share of the stage's CPUs."""
        num_threads = max(1, int(self.config.resources.num_cpus * share))
        return Limits(max_tokens=self.config.max_tokens, num_threads=num_threads)

    def split(self) -> TokenizedDataset:
        """The documents to score on, on this node."""
        return TokenizedDataset(artifact_folder(self.dataset), self.config.split)


@dataclass(frozen=True)
class Figures:
    """Bytes before and after, of the weights and of the written folder; tokens a second of one stream, None
    where nothing here decodes with the folder."""

    bytes_before: int
    bytes_after: int
    folder_bytes_after: int
    tokens_per_second_before: float
    tokens_per_second_after: float | None


def score_original(job: CompressionJob) -> Iterator[Score]:
    """The task that scores the model as it is."""
    yield from running_score(artifact_folder(job.model), job.split(), job.limits(0.5))


def write_and_score(job: CompressionJob) -> Iterator[str | Partly | Score | Figures | FileChunk]:
    """The task that compresses, scores what came out, and sends it: step names, scores, figures, files."""
    source = artifact_folder(job.model)
    others = tuple(artifact_folder(other) for other in job.others)
    with tempfile.TemporaryDirectory(prefix="heliostat-export-") as name:
        target = Path(name)
        material = Material(source, target, job.split(), others)
        yield from kinds.write_and_score(job.config, material, job.limits(1.0))
        yield _figures(job, source, target)
        yield from chunks_of(target)


def _figures(job: CompressionJob, source: Path, target: Path) -> Figures:
    prompt = job.split()[0].documents()[0].input_ids.astype("int64")
    threads = job.limits(1.0).num_threads
    decodes = kinds.artifact_kind(job.config) != "export"
    return Figures(
        bytes_before=weight_bytes(source),
        bytes_after=weight_bytes(target),
        folder_bytes_after=folder_bytes(target),
        tokens_per_second_before=tokens_per_second(source, prompt, threads),
        tokens_per_second_after=tokens_per_second(target, prompt, threads) if decodes else None,
    )


def compress_on_cluster(job: CompressionJob, folder: Path) -> dict[str, Any]:
    """Compress into `folder` on this machine; returns what was measured.

    Raises:
        ModelError: the model cannot be compressed so, or its perplexity rose too much.
    """
    started = time.monotonic()
    whole = job.config.resources
    half = whole.model_copy(update={"num_cpus": whole.num_cpus / 2})
    watch = _Watch(job.config, tokens_within(job.split(), job.config.max_tokens))
    running = {
        "before": streaming_task(score_original, half).remote(job),
        "after": streaming_task(write_and_score, half).remote(job),
    }
    with progress("compress", 100, "%") as report:
        for task, item in stream(running):
            if isinstance(item, FileChunk):
                watch.check_passed()
                item.append_to(folder)
            else:
                watch.take(task, item, report)
    watch.check_passed()
    return watch.facts() | {"seconds": time.monotonic() - started}


class _Watch:
    """Keeps what the tasks have said so far and shows how far they are."""

    def __init__(self, config: CompressStep, tokens: int) -> None:
        self._config = config
        self._tokens = tokens
        self._written = 0.0
        self._step = ""
        self._scores: dict[str, Score] = {}
        self._figures: Figures | None = None

    def take(self, task: str, item: str | Partly | Score | Figures, report: Report) -> None:
        """Note an item and report the progress: writing is half of the work, each scoring a quarter."""
        if isinstance(item, Figures):
            self._figures = item
        elif isinstance(item, Score):
            self._scores[task] = item
            if task == "after":
                self._written, self._step = 1.0, "score"
        else:
            step = item if isinstance(item, Partly) else Partly(item, 0.0)
            steps = kinds.steps_of(self._config)
            names = list(steps)
            before = sum(steps[name] for name in names[: names.index(step.step)])
            self._written, self._step = before + step.share * steps[step.step], step.step
        scored = sum(score.num_tokens for score in self._scores.values()) / self._tokens
        report(50 * self._written + 25 * scored, self._step)

    def check_passed(self) -> None:
        """Stop everything as soon as both scores are whole and the rise is too large."""
        whole = [score.num_tokens == self._tokens for score in self._scores.values()]
        if len(whole) == 2 and all(whole):
            before, after = self._scores["before"].perplexity, self._scores["after"].perplexity
            check_gate(before, after, self._config)

    def facts(self) -> dict[str, Any]:
        """For the certificate."""
        assert self._figures is not None
        before, after = self._scores["before"], self._scores["after"]
        return {
            "kind": self._config.kind,
            "scheme": self._config.scheme_name,
            "perplexity_before": before.perplexity,
            "perplexity_after": after.perplexity,
            "num_labels": after.num_labels,
            "tokens": after.num_tokens,
            **vars(self._figures),
        }
