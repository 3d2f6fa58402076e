"""Models that steps ask about a text: brought into the workspace before the first task, loaded in tasks."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from heliostat.config import Config
from heliostat.data.config import CleanConfig
from heliostat.data.served_scoring import check_served
from heliostat.data.steps.perplexity import ModelPerplexity, PerplexityStep, Scorer, ServedPerplexity
from heliostat.data.steps.topics import Embed, EmbeddingTopicStep
from heliostat.models.embedding import check_embedder, import_embedder
from heliostat.models.importing import check_reference, import_model
from heliostat.records import Artifact
from heliostat.storage import artifact_folder
from heliostat.workspace import Workspace


def judge_of(step: Config) -> str | None:
    """The reference of the model that a step loads and asks, as its recipe names it; None for most steps."""
    if isinstance(step, EmbeddingTopicStep):
        return step.embedder
    if isinstance(step, PerplexityStep) and isinstance(step.model, ModelPerplexity):
        return step.model.reference
    return None


def check_judges(config: CleanConfig) -> None:
    """See that the models which steps ask are known, lie in their folders, or answer.

    Raises:
        ModelError: one is not there, or is not safe to load.
    """
    for each in config.steps:
        if isinstance(each, PerplexityStep) and isinstance(each.model, ServedPerplexity):
            check_served(each.model)
    for step, reference in _judging(config):
        (check_embedder if isinstance(step, EmbeddingTopicStep) else check_reference)(reference)


def bring_judges(config: CleanConfig, workspace: Workspace) -> dict[str, Artifact]:
    """The models that steps ask as artifacts of the workspace, by their references.

    Raises:
        ModelError: one is unknown, unsafe, incomplete, or not to be had.
    """
    return {
        reference: (import_embedder if isinstance(step, EmbeddingTopicStep) else import_model)(
            reference, workspace
        )
        for step, reference in _judging(config)
    }


def embed_with(artifact: Artifact) -> Embed:
    """An embedder at work, loaded once in a process."""
    return _load_embedder(artifact_folder(artifact))


def score_with(artifact: Artifact, config: ModelPerplexity) -> Scorer:
    """A language model at work, loaded once in a process."""
    return _load_scorer(artifact_folder(artifact), config.max_tokens)


def _judging(config: CleanConfig) -> Iterator[tuple[Config, str]]:
    for step in config.steps:
        reference = judge_of(step)
        if reference:
            yield step, reference


@lru_cache(maxsize=2)
def _load_embedder(folder: Path) -> Embed:
    from heliostat.models.embedding import load_embedder

    return load_embedder(folder)


@lru_cache(maxsize=2)
def _load_scorer(folder: Path, max_tokens: int) -> Scorer:
    from heliostat.models.text_scoring import load_text_scorer

    return load_text_scorer(folder, max_tokens)
