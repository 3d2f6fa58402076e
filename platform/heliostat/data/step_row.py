"""From a step's config to the step at work. Steps over all documents (dedup) are in `decisions.py`.

To add a step: a file in `steps/` with a config class that has a `kind` and a function from a document to a
document or a `Refusal`; the config in the union `Step` of `data/config.py`; a line in `make_step`.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from heliostat.config import Config
from heliostat.data.config import DocumentStepConfig
from heliostat.data.decontamination import make_decontaminate
from heliostat.data.dedup_config import DecontaminateStep
from heliostat.data.documents import Document, Dropped, Outcome
from heliostat.data.steps.agreement import LabelAgreementStep, make_label_agreement
from heliostat.data.steps.blocklist import BlocklistStep, make_blocklist
from heliostat.data.steps.c4 import C4Step, make_c4
from heliostat.data.steps.fineweb import FineWebStep, make_fineweb
from heliostat.data.steps.gopher import GopherQualityStep, make_gopher_quality
from heliostat.data.steps.interface import DocumentStep, Refusal, ScoredStep
from heliostat.data.steps.language import LanguageStep, make_language
from heliostat.data.steps.length import LengthStep, make_length
from heliostat.data.steps.normalise import NormaliseStep, make_normalise
from heliostat.data.steps.perplexity import (
    ModelPerplexity,
    NgramPerplexity,
    PerplexityStep,
    Scorer,
    ServedPerplexity,
    make_perplexity,
)
from heliostat.data.steps.pii import PiiStep, make_pii
from heliostat.data.steps.quality import QualityStep, make_quality
from heliostat.data.steps.repetition import GopherRepetitionStep, make_gopher_repetition
from heliostat.data.steps.topics import (
    Embed,
    EmbeddingTopicStep,
    LdaTopicStep,
    make_embedding_topic,
    make_lda_topic,
)

CountTokens = Callable[[Document], int]
Fitted = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class StepContext:
    """What steps may need beside their config: a tokenizer, what fitted steps learned, and other models."""

    count_tokens: CountTokens
    fitted: Callable[[DocumentStepConfig], Fitted]
    embed: Callable[[EmbeddingTopicStep], Embed]
    scorer: Callable[[ModelPerplexity | ServedPerplexity], Scorer]


@dataclass
class StepRow:
    """Some steps in their order, applied to batches of documents, with an account of what each did.

    `names` are the steps' names in the account: their kinds, with a number from the second of a kind on.
    """

    names: Sequence[str]
    steps: Sequence[DocumentStep]
    dropped: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def apply(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Every document behind all steps, or as it was when one of them dropped it; in the order given."""
        results = list(outcomes)
        for outcome in outcomes:
            if isinstance(outcome, Dropped):
                self._count(outcome.step, outcome.reason)
        for name, step in zip(self.names, self.steps, strict=True):
            started = time.perf_counter()
            there = [(at, each) for at, each in enumerate(results) if isinstance(each, Document)]
            judged = _judge_all(step, [document for _, document in there])
            for (position, document), result in zip(there, judged, strict=True):
                results[position] = self._outcome(name, document, result)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
        return results

    def _outcome(self, name: str, document: Document, result: Document | Refusal) -> Outcome:
        if isinstance(result, Document):
            return result
        self._count(name, result.reason)
        return Dropped(document, name, result.reason, result.detail, result.score)

    def _count(self, name: str, reason: str) -> None:
        self.dropped.setdefault(name, Counter())[reason] += 1


def _judge_all(step: DocumentStep, documents: list[Document]) -> Iterable[Document | Refusal]:
    return step.judge_all(documents) if isinstance(step, ScoredStep) else map(step, documents)


def make_steps(named: Sequence[tuple[str, DocumentStepConfig]], context: StepContext) -> StepRow:
    """The steps of some configs, ready to work, with their names in the account.

    Raises:
        ConfigError: a file that a step needs is not there.
    """
    return StepRow([name for name, _ in named], [make_step(config, context) for _, config in named])


def make_step(config: DocumentStepConfig, context: StepContext) -> DocumentStep:
    """One step, ready to work."""
    return _MAKERS[type(config)](config, context)


def _make_perplexity(config: PerplexityStep, context: StepContext) -> DocumentStep:
    if isinstance(config.model, NgramPerplexity):
        return make_perplexity(config, context.fitted(config))
    return make_perplexity(config, {}, context.scorer(config.model))


_MAKERS: dict[type[Config], Callable[[Any, StepContext], DocumentStep]] = {
    BlocklistStep: lambda config, _: make_blocklist(config),
    C4Step: lambda config, _: make_c4(config),
    DecontaminateStep: lambda config, context: make_decontaminate(config, context.fitted(config)),
    FineWebStep: lambda config, _: make_fineweb(config),
    GopherQualityStep: lambda config, _: make_gopher_quality(config),
    GopherRepetitionStep: lambda config, _: make_gopher_repetition(config),
    LabelAgreementStep: lambda config, context: make_label_agreement(
        config, context.fitted(config) if config.needs_all_labels else None
    ),
    LanguageStep: lambda config, _: make_language(config),
    EmbeddingTopicStep: lambda config, context: make_embedding_topic(
        config, context.fitted(config), context.embed(config)
    ),
    LdaTopicStep: lambda config, context: make_lda_topic(config, context.fitted(config)),
    LengthStep: lambda config, context: make_length(config, context.count_tokens),
    NormaliseStep: lambda config, _: make_normalise(config),
    PerplexityStep: lambda config, context: _make_perplexity(config, context),
    PiiStep: lambda config, _: make_pii(config),
    QualityStep: lambda config, context: make_quality(config, context.fitted(config)),
}
