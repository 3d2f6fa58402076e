"""Where evaluation meets Ray: one task a model, side by side as far as the cluster has room."""

from collections.abc import Iterator
from dataclasses import dataclass

from heliostat.evaluation.config import EvaluateConfig
from heliostat.models.perplexity import DocumentLoss, Limits, Score, running_score, tokens_within
from heliostat.progress import progress
from heliostat.ray_tasks import stream, streaming_task
from heliostat.records import Artifact
from heliostat.storage import artifact_folder
from heliostat.tokenized import TokenizedDataset


@dataclass(frozen=True)
class ScoringJob:
    """One model to score."""

    config: EvaluateConfig
    model: Artifact
    dataset: Artifact


def score_model(job: ScoringJob) -> Iterator[Score]:
    """The task: yields the score so far after each batch."""
    limits = Limits(
        max_tokens=job.config.max_tokens,
        micro_batch_size=job.config.micro_batch_size,
        num_threads=max(1, int(job.config.resources.num_cpus)),
    )
    dataset = TokenizedDataset(artifact_folder(job.dataset), job.config.split)
    yield from running_score(artifact_folder(job.model), dataset, limits)


def score_models(
    config: EvaluateConfig, models: dict[str, Artifact], dataset: Artifact
) -> tuple[dict[str, Score], dict[str, list[DocumentLoss]]]:
    """Score every model on the cluster, showing progress over all of them; their totals and documents.

    Raises:
        HeliostatError: what a task raised; the others are stopped.
    """
    split = TokenizedDataset(artifact_folder(dataset), config.split)
    total = tokens_within(split, config.max_tokens) * len(models)
    task = streaming_task(score_model, config.resources)
    running = {name: task.remote(ScoringJob(config, model, dataset)) for name, model in models.items()}
    scores: dict[str, Score] = {}
    documents: dict[str, list[DocumentLoss]] = {name: [] for name in models}
    with progress("evaluate", total, "tokens") as report:
        for name, score in stream(running):
            scores[name] = score
            documents[name] += score.documents
            note = ", ".join(f"{each} {scores[each].perplexity:.2f}" for each in models if each in scores)
            report(sum(each.num_tokens for each in scores.values()), note)
    return {name: scores[name] for name in models}, documents
