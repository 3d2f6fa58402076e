"""The figures of `quality_figures` over all documents that were read, and over those that were kept.

A dropped document is measured as it was when it was dropped, one that was kept as it is published.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from heliostat.data.accounting import tables_of
from heliostat.data.cleaning_tasks import DROPPED_FOLDER
from heliostat.data.config import CleanConfig
from heliostat.data.documents import READ_STEP, Document
from heliostat.data.phrases import PhraseSearch, phrase_keys, read_phrases
from heliostat.data.quality_figures import Figure, cleanliness, consistency, coverage, topic_consistency
from heliostat.data.segments import named_steps
from heliostat.data.shards import documents_of
from heliostat.data.steps.agreement import LabelAgreementStep, agreement_figures, answers_of
from heliostat.data.steps.perplexity import PerplexityStep
from heliostat.data.steps.topics import EmbeddingTopicStep, LdaTopicStep
from heliostat.text.agreement import Answer
from heliostat.tokenized import SPLITS

QUALITY_STEPS = frozenset(
    ("language", "gopher_quality", "gopher_repetition", "c4", "fineweb", "blocklist", "perplexity", "quality")
)
"""What these drop is noise; documents that are too short, repeated or off topic are not."""
SCORING = (PerplexityStep, LdaTopicStep, EmbeddingTopicStep)
DOMAIN_TERMS = "domain_terms"


def domain_terms(config: CleanConfig) -> list[str]:
    """The terms whose coverage is asked for; [] unless it is.

    Raises:
        ConfigError: the file cannot be read or has none.
    """
    return read_phrases(config.domain_terms, DOMAIN_TERMS) if config.domain_terms else []


def quality_before_and_after(config: CleanConfig, folder: Path) -> list[dict[str, Any]]:
    """A row for each figure that the recipe lets one measure: `figure`, `before`, `after`, and where there is
    a target `bound` and `target`, and whether it is `met` after. `folder` holds a published dataset."""
    terms = domain_terms(config)
    search = PhraseSearch(phrase_keys(terms)) if terms else None
    kept, dropped = _Side(config, search), _Side(config, search)
    for split in SPLITS:
        kept.add_all(folder, split)
    dropped.add_all(folder, DROPPED_FOLDER)
    before = dropped + kept
    rows = [
        _row(consistency(before.lengths.tolist()), consistency(kept.lengths.tolist())),
        *_noise(config, before, kept),
        *_topics(config, before, kept),
        *([_row(coverage(terms, before.terms), coverage(terms, kept.terms))] if terms else []),
        *_perplexities(config, before, kept),
        *_agreement(config, before, kept),
    ]
    return [row for row in rows if row["before"] is not None]


def character_counts(table: pa.Table) -> np.ndarray:
    """The characters of each document, `len` of all its `contents`: (num_rows,) int64. No text is decoded."""
    counts: np.ndarray = pc.fill_null(pc.utf8_length(table["text"]), 0).to_numpy().astype(np.int64)
    for name in ("messages", "rejected"):
        turns = table[name].combine_chunks()
        lengths = pc.utf8_length(pc.struct_field(pc.list_flatten(turns), "content")).to_numpy(False)
        counts += np.bincount(pc.list_parent_indices(turns), lengths, len(counts)).astype(np.int64)
    return counts


@dataclass
class _Side:
    """What the figures are made of, over some documents."""

    config: CleanConfig
    search: PhraseSearch | None
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    noisy: int = 0
    scores: dict[str, list[float]] = field(default_factory=dict)
    terms: set[str] = field(default_factory=set)
    answers: list[list[list[Answer]]] = field(default_factory=list)
    """Of each document, for each step that asks annotators: who gave which label."""

    def __add__(self, other: "_Side") -> "_Side":
        return _Side(
            self.config,
            self.search,
            np.concatenate([self.lengths, other.lengths]),
            self.noisy + other.noisy,
            {
                name: self.scores.get(name, []) + other.scores.get(name, [])
                for name in self.scores.keys() | other.scores.keys()
            },
            self.terms | other.terms,
            self.answers + other.answers,
        )

    def add_all(self, folder: Path, place: str) -> None:
        """Measure the documents in a folder of Parquet parts, one part in memory at a time."""
        labelling = _labelling(self.config)
        whole = bool(labelling) or self.search is not None
        columns = ["text", "messages", "rejected", "metadata", "step", "score"]
        if whole:
            columns += ["uid", "source", "row", "domain", "tools"]
        for table in tables_of(folder, place, columns):
            if "step" in table.column_names:
                table = table.filter(pc.not_equal(table["step"], READ_STEP))
            self._add(table)
            for document in documents_of(table) if whole else ():
                self._add_document(document, labelling)

    def _add(self, table: pa.Table) -> None:
        self.lengths = np.concatenate([self.lengths, character_counts(table)])
        wanted = {step.kind for step in self.config.steps if isinstance(step, SCORING)}
        if "step" in table.column_names:
            named = {name: step.kind for name, step in named_steps(self.config)}
            kinds = [named.get(name, name) for name in table["step"].to_pylist()]
            self.noisy += sum(kind in QUALITY_STEPS for kind in kinds)
            for kind, score in zip(kinds, table["score"].to_pylist(), strict=True):
                if kind in wanted and score is not None:
                    self.scores.setdefault(kind, []).append(score)
        for text in table["metadata"].drop_null().to_pylist() if wanted else ():
            for name, value in json.loads(text).items():
                if name in wanted:
                    score = value["similarity"] if isinstance(value, dict) else value
                    self.scores.setdefault(name, []).append(score)

    def _add_document(self, document: Document, labelling: list[LabelAgreementStep]) -> None:
        if self.search is not None:
            self.terms |= self.search.mentioned(document.whole_text)
        if labelling:
            self.answers.append([answers_of(step, document) for step in labelling])


def _row(before: Figure, after: Figure) -> dict[str, Any]:
    return {
        "figure": after.name,
        "before": before.value,
        "after": after.value,
        "bound": after.bound,
        "target": after.target,
        "met": after.met,
    }


def _untargeted(name: str, before: float | None, after: float | None) -> dict[str, Any]:
    return {"figure": name, "before": before, "after": after, "bound": None, "target": None, "met": None}


def _noise(config: CleanConfig, before: _Side, after: _Side) -> list[dict[str, Any]]:
    if not QUALITY_STEPS.intersection(step.kind for step in config.steps):
        return []
    return [_row(*(cleanliness(side.noisy, len(side.lengths)) for side in (before, after)))]


def _topics(config: CleanConfig, before: _Side, after: _Side) -> list[dict[str, Any]]:
    """A document is on topic where the step would keep it: what its similarity means is the step's affair."""
    rows = []
    for step in config.steps:
        if isinstance(step, (LdaTopicStep, EmbeddingTopicStep)):
            scores = [side.scores.get(step.kind, []) for side in (before, after)]
            rows.append(_row(*(topic_consistency(each, step.min_similarity) for each in scores)))
    return rows


def _perplexities(config: CleanConfig, before: _Side, after: _Side) -> list[dict[str, Any]]:
    rows = []
    for step in config.steps:
        if isinstance(step, PerplexityStep):
            scores = [side.scores.get(step.kind) for side in (before, after)]
            medians = [median(each) if each else None for each in scores]
            rows.append(_untargeted("median_perplexity", *medians))
    return rows


def _agreement(config: CleanConfig, before: _Side, after: _Side) -> list[dict[str, Any]]:
    rows = []
    for number, step in enumerate(_labelling(config)):
        sides = ([answers[number] for answers in side.answers] for side in (before, after))
        first, last = (agreement_figures(step, answers) for answers in sides)
        rows += [_untargeted(name, first[name], last[name]) for name in first]
    return rows


def _labelling(config: CleanConfig) -> list[LabelAgreementStep]:
    return [step for step in config.steps if isinstance(step, LabelAgreementStep)]
