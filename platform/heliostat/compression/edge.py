"""Where compression meets Ray: the export and the scoring of the original run side by side.

An export keeps one core busy whatever it is given, so the other one scores the original meanwhile.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heliostat.compression.config import CompressConfig
from heliostat.compression.gate import check_gate, folder_bytes, weight_bytes
from heliostat.compression.openvino_export import STEPS, export_steps
from heliostat.models.perplexity import Limits, Score, running_score, tokens_within
from heliostat.progress import Report, progress
from heliostat.ray_tasks import FileChunk, chunks_of, stream, streaming_task
from heliostat.records import Artifact
from heliostat.storage import artifact_folder
from heliostat.tokenized import TokenizedDataset


@dataclass(frozen=True)
class CompressionJob:
    """What both tasks work on."""

    config: CompressConfig
    model: Artifact
    dataset: Artifact

    def limits(self, share: float) -> Limits:
        """How the model is scored with a share of the stage's CPUs."""
        num_threads = max(1, int(self.config.resources.num_cpus * share))
        return Limits(max_tokens=self.config.max_tokens, num_threads=num_threads)

    def split(self) -> TokenizedDataset:
        """The documents to score on, on this node."""
        return TokenizedDataset(artifact_folder(self.dataset), self.config.split)


@dataclass(frozen=True)
class Sizes:
    """Bytes before and after: of the weights, and of the exported folder."""

    bytes_before: int
    bytes_after: int
    folder_bytes_after: int


def score_original(job: CompressionJob) -> Iterator[Score]:
    """The task that scores the model as it is."""
    yield from running_score(artifact_folder(job.model), job.split(), job.limits(0.5))


def export_and_score(job: CompressionJob) -> Iterator[str | Score | Sizes | FileChunk]:
    """The task that exports, scores what came out, and sends it: step names, scores, sizes, then files."""
    source = artifact_folder(job.model)
    with tempfile.TemporaryDirectory(prefix="heliostat-export-") as name:
        target = Path(name)
        yield from export_steps(source, target, job.config.scheme)
        yield from running_score(target, job.split(), job.limits(1.0))
        yield Sizes(weight_bytes(source), weight_bytes(target), folder_bytes(target))
        yield from chunks_of(target)


def compress_on_cluster(job: CompressionJob, folder: Path) -> dict[str, Any]:
    """Export and compress into `folder` on this machine; returns what was measured.

    Raises:
        ModelError: the model cannot be exported, or its perplexity rose too much.
    """
    started = time.monotonic()
    whole = job.config.resources
    half = whole.model_copy(update={"num_cpus": whole.num_cpus / 2})
    watch = _Watch(tokens_within(job.split(), job.config.max_tokens))
    running = {
        "before": streaming_task(score_original, half).remote(job),
        "after": streaming_task(export_and_score, half).remote(job),
    }
    with progress("compress", 100, "%") as report:
        for task, item in stream(running):
            if isinstance(item, FileChunk):
                watch.check_passed(job.config.max_loss)
                item.append_to(folder)
            else:
                watch.take(task, item, report)
    watch.check_passed(job.config.max_loss)
    return watch.facts(job.config.scheme) | {"seconds": time.monotonic() - started}


class _Watch:
    """Keeps what the tasks have said so far and shows how far they are."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._exported = 0.0
        self._step = "load"
        self._scores: dict[str, Score] = {}
        self._sizes: Sizes | None = None

    def take(self, task: str, item: str | Score | Sizes, report: Report) -> None:
        """Note an item and report the progress: the export is half of the work, each scoring a quarter."""
        if isinstance(item, Sizes):
            self._sizes = item
        elif isinstance(item, Score):
            self._scores[task] = item
            if task == "after":
                self._exported, self._step = 1.0, "score"
        else:
            steps = list(STEPS)
            self._exported = sum(STEPS[step] for step in steps[: steps.index(item)])
            self._step = item
        scored = sum(score.num_tokens for score in self._scores.values()) / self._tokens
        report(50 * self._exported + 25 * scored, self._step)

    def check_passed(self, max_loss: float) -> None:
        """Stop everything as soon as both scores are whole and the rise is too large."""
        if (
            all(self._scores[task].num_tokens == self._tokens for task in self._scores)
            and len(self._scores) == 2
        ):
            check_gate(self._scores["before"].perplexity, self._scores["after"].perplexity, max_loss)

    def facts(self, scheme: str) -> dict[str, Any]:
        """For the certificate."""
        assert self._sizes is not None
        before, after = self._scores["before"], self._scores["after"]
        return {
            "scheme": scheme,
            "perplexity_before": before.perplexity,
            "perplexity_after": after.perplexity,
            "num_labels": after.num_labels,
            "tokens": after.num_tokens,
            "bytes_before": self._sizes.bytes_before,
            "bytes_after": self._sizes.bytes_after,
            "folder_bytes_after": self._sizes.folder_bytes_after,
        }
