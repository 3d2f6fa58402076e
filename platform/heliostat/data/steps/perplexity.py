"""Perplexity limits: by a small n-gram model of given text, or by a language model."""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config
from heliostat.data.documents import Document
from heliostat.data.steps.interface import Refusal, ScoredStep

if TYPE_CHECKING:
    import numpy as np

Scorer = Callable[[list[str]], list[float]]
"""The perplexity of each text, the same in whatever batch it comes; nan where there is nothing to score."""


class NgramPerplexity(Config):
    """Word n-grams learned from the first `max_characters` of a reference: a file, a folder or a glob.

    Perplexity is per word, per character of Chinese and other scripts without spaces, and per mark of
    punctuation; an unknown word costs its letters as well. Measured with 13 MB of docstrings as reference:
    half of the unseen docstrings of the same packages lie below 17 and nine in ten below 117, those of
    another package around 460, an administrator's handbook around 2,000, shuffled words around 400, and
    rubbish above 100,000. With 1.4 million characters of Chinese manuals: 77 and 184, another Chinese book
    95, shuffled characters 4,600. So 150 asks for text like the reference; to ask only for text in the same
    language, say 10,000.
    """

    kind: Literal["ngram"] = "ngram"
    reference: str = Field(min_length=1)
    order: int = Field(default=3, ge=2, le=5)
    max_characters: int = Field(default=10_000_000, ge=1)


class ModelPerplexity(Config):
    """A causal language model: `pypi:NAME` of the catalogue, or a folder, such as a workspace's model.

    Perplexity is per token of that model, over the first `max_tokens` of a document.
    """

    kind: Literal["model"] = "model"
    reference: str = Field(min_length=1)
    max_tokens: int = Field(default=1024, ge=2)


class ServedPerplexity(Config):
    """A model behind an OpenAI-compatible endpoint that returns the log probabilities of a prompt.

    Perplexity is per token of that model, over the first `max_characters` of a document. `url` is what
    clients call the base URL, such as `http://10.0.0.5:8000/v1`; `key_variable` names the environment
    variable with its key. The last digits of a score can change with what the server has in a batch: whoever
    wants the same documents each time takes kind `model`.
    """

    kind: Literal["served"] = "served"
    url: str = Field(pattern=r"^https?://[^@\s]+$")
    model: str = Field(min_length=1)
    key_variable: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    max_characters: int = Field(default=4096, ge=1)
    batch_size: int = Field(default=16, ge=1)


class PerplexityStep(Config):
    """Keep documents whose perplexity lies between the limits, both included; without limits, only measure.

    The upper limit, 150 by default, is about tokens or words, so each kind of model says what its unit is.
    Very low perplexity is boilerplate: the same sentence again and again, or text that was learned by heart.
    """

    kind: Literal["perplexity"] = "perplexity"
    model: Annotated[NgramPerplexity | ModelPerplexity | ServedPerplexity, Field(discriminator="kind")]
    max_perplexity: float | None = Field(default=150, ge=1)
    min_perplexity: float | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _leaves_something(self) -> Self:
        least, most = self.min_perplexity, self.max_perplexity
        if least is not None and most is not None and least > most:
            raise ValueError(
                f"min_perplexity={least:g} is above max_perplexity={most:g}; no document could be both"
            )
        return self

    @property
    def references(self) -> tuple[str, ...]:
        """What to read before fitting: nothing, when a language model judges."""
        return (self.model.reference,) if isinstance(self.model, NgramPerplexity) else ()


def fit_perplexity(config: PerplexityStep, texts: Iterator[str]) -> dict[str, "np.ndarray"]:
    """The n-gram model of the reference; 2 MB/s, and 40 bytes of memory for each of its characters.

    Raises:
        ValueError: there is no word in the reference.
    """
    from heliostat.text.ngram_model import NgramModel

    assert isinstance(config.model, NgramPerplexity), "a language model is not fitted"
    try:
        return NgramModel.fit(texts, config.model.order, config.model.max_characters).arrays()
    except ValueError as error:
        raise ValueError(f"{config.model.reference}: {error}") from None


def make_perplexity(
    config: PerplexityStep, fitted: Mapping[str, "np.ndarray"], scorer: Scorer | None = None
) -> ScoredStep:
    """The step of a config: with what `fit_perplexity` gave, or with the scorer of its language model."""
    return ScoredStep(scorer or ngram_scorer(fitted), partial(judge_perplexity, config))


def ngram_scorer(fitted: Mapping[str, "np.ndarray"]) -> Scorer:
    """The n-gram model as a scorer."""
    from heliostat.text.ngram_model import NgramModel

    model = NgramModel.from_arrays(fitted)

    def score(texts: list[str]) -> list[float]:
        measured = (model.measure(text) for text in texts)
        return [each.perplexity if each.num_units else math.nan for each in measured]

    return score


def judge_perplexity(config: PerplexityStep, document: Document, perplexity: float) -> Document | Refusal:
    """What becomes of a document with this perplexity."""
    if math.isnan(perplexity):
        return Refusal("empty")
    perplexity = float(f"{min(perplexity, 1e300):.4g}")
    if config.max_perplexity is not None and perplexity > config.max_perplexity:
        return Refusal("high_perplexity", perplexity)
    if config.min_perplexity is not None and perplexity < config.min_perplexity:
        return Refusal("low_perplexity", perplexity)
    return document.with_metadata(config.kind, perplexity)
