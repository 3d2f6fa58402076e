"""Which label a document gets when several annotators looked at it, and whether they agree enough."""

import json
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config
from heliostat.data.documents import Document
from heliostat.data.steps.interface import DocumentStep, Refusal
from heliostat.text.agreement import (
    Level,
    cohen_kappa,
    dawid_skene,
    fleiss_kappa,
    krippendorff_alpha,
    majority,
)

LABEL = "label"
"""The metadata that holds the label a document got."""

Labels = list[str | None]
Resolved = tuple[str | None, float]
"""A label, or None when no one label leads, and how sure it is, 0 to 1."""


class LabelAgreementStep(Config):
    """Give each document one label, and keep those whose annotators agree.

    The labels are a list in the metadata `column`: one entry an annotator, null for who did not look at the
    document. `method: majority` takes the label most gave and the share of annotators who gave it;
    `dawid_skene` learns from all documents how each annotator errs (the list must have the same annotators in
    the same places everywhere) and takes the likeliest label and its probability. Documents below
    `min_agreement` are dropped. `level` and `order` say how far apart two labels are, for the alpha of all
    documents: labels of an ordinal scale that are no numbers need their `order`.
    """

    kind: Literal["label_agreement"] = "label_agreement"
    column: str = Field(default="labels", min_length=1)
    method: Literal["majority", "dawid_skene"] = "majority"
    min_agreement: float = Field(default=0.5, ge=0, le=1)
    min_annotators: int = Field(default=2, ge=1)
    level: Level = "nominal"
    order: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _orders_what_has_an_order(self) -> Self:
        if self.order and self.level != "ordinal":
            raise ValueError(f"order needs level=ordinal, got level={self.level}")
        if self.order and len(set(self.order)) < len(self.order):
            raise ValueError("order names a label twice; name each label once, from least to most")
        return self

    @property
    def needs_all_labels(self) -> bool:
        """Whether `resolve_labels` has to see every document before one can be judged."""
        return self.method == "dawid_skene"


def make_label_agreement(config: LabelAgreementStep) -> DocumentStep:
    """The step of a config whose method is majority, which needs no other document."""
    assert not config.needs_all_labels, "resolve_labels, then judge_label"

    def step(document: Document) -> Document | Refusal:
        labels = labels_of(config, document)
        return judge_label(config, document, resolve_labels(config, [labels])[0])

    return step


def labels_of(config: LabelAgreementStep, document: Document) -> Labels:
    """The annotators' labels as texts; a single value is that of one annotator, a missing column of none."""
    given = document.metadata.get(config.column)
    entries = given if isinstance(given, (list, tuple)) else [given]
    return [_as_text(entry) for entry in entries]


def resolve_labels(config: LabelAgreementStep, labels: Sequence[Labels]) -> list[Resolved]:
    """The label of each document by the config's method, and how sure it is; None and 0 without labels."""
    if not config.needs_all_labels:
        return [(_text_or_none(label), share) for label, share in map(majority, labels)]
    if not any(label is not None for document in labels for label in document):
        return [(None, 0.0)] * len(labels)
    learned = dawid_skene(labels)
    best = learned.posteriors.argmax(axis=1).tolist()
    return [
        (str(learned.classes[place]), round(float(row[place]), 6))
        if any(label is not None for label in document)
        else (None, 0.0)
        for document, row, place in zip(labels, learned.posteriors, best, strict=True)
    ]


def judge_label(config: LabelAgreementStep, document: Document, resolved: Resolved) -> Document | Refusal:
    """What becomes of a document with this label; the score of a refusal is a number of people or a share."""
    num_labels = sum(label is not None for label in labels_of(config, document))
    label, confidence = resolved
    if num_labels < config.min_annotators:
        return Refusal("too_few_annotators", num_labels)
    if label is None:
        return Refusal("no_majority", confidence)
    if confidence < config.min_agreement:
        return Refusal("annotators_disagree", confidence, label)
    return document.with_metadata(LABEL, label).with_metadata(config.kind, confidence)


def agreement_figures(config: LabelAgreementStep, labels: Sequence[Labels]) -> dict[str, float | None]:
    """How far the annotators of all documents agree; a figure that is not defined is None.

    `cohen_kappa` is the mean over all pairs of annotators, each pair on the documents both looked at. Alpha
    and kappa are 1 for perfect agreement and 0 for chance; Krippendorff asks for an alpha of 0.8, and of
    0.667 where tentative conclusions are enough.

    Raises:
        ValueError: the labels are not on the scale that the config says.
    """
    width = max(map(len, labels), default=0)
    columns = [[document[i] if i < len(document) else None for document in labels] for i in range(width)]
    kappas = [
        kappa
        for i, first in enumerate(columns)
        for second in columns[i + 1 :]
        if (kappa := cohen_kappa(first, second)) is not None
    ]
    return {
        "krippendorff_alpha": krippendorff_alpha(labels, config.level, config.order),
        "fleiss_kappa": fleiss_kappa(labels),
        "cohen_kappa": sum(kappas) / len(kappas) if kappas else None,
    }


def _as_text(entry: Any) -> str | None:
    """Labels are compared as texts, so that 1 and "1" from two sources are one label."""
    return entry if entry is None or isinstance(entry, str) else json.dumps(entry, sort_keys=True)


def _text_or_none(label: str | float | None) -> str | None:
    return None if label is None else str(label)
