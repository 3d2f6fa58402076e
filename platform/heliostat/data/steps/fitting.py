"""Steps that learn from given text before the first document is read.

The stage reads each step's references, fits it once in one task, and stores what was learned with `np.savez`;
nothing is ever unpickled. References and what is learned go into the stage's fingerprint.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from heliostat.config import Config
from heliostat.data.steps.perplexity import PerplexityStep, fit_perplexity
from heliostat.data.steps.quality import QualityStep, fit_quality
from heliostat.data.steps.topics import (
    Embed,
    EmbeddingTopicStep,
    LdaTopicStep,
    fit_embedding_topic,
    fit_lda_topic,
)
from heliostat.errors import DataError

if TYPE_CHECKING:
    import numpy as np

FittedStep = PerplexityStep | QualityStep | LdaTopicStep | EmbeddingTopicStep
"""Steps with a property `references`: the files, folders or globs to read before fitting."""

ReadTexts = Callable[[str], Iterator[str]]
"""The texts behind a reference, in an order that does not change; read only as far as they are asked for."""


def references(config: Config) -> tuple[str, ...]:
    """What has to be read before a step can work, in the order of its fit; nothing for most steps."""
    return config.references if isinstance(config, FittedStep) else ()


def fit_step(config: FittedStep, read: ReadTexts, embed: Embed | None = None) -> dict[str, "np.ndarray"]:
    """What a step learns from its references, as named arrays for its `make_...`.

    `embed` is the embedder that an `EmbeddingTopicStep` names.

    Raises:
        DataError: there is nothing to learn from.
    """
    texts = [read(reference) for reference in references(config)]
    try:
        match config:
            case PerplexityStep():
                return fit_perplexity(config, texts[0])
            case QualityStep():
                return fit_quality(config, texts[0], texts[1])
            case LdaTopicStep():
                return fit_lda_topic(config, texts[0])
            case EmbeddingTopicStep():
                assert embed is not None, "the stage loads the embedder"
                return fit_embedding_topic(config, texts[0], embed)
    except ValueError as error:
        raise DataError(f"step {config.kind}: {error}; give a reference with more text") from None
