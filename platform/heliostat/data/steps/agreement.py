"""Which label a document gets when several annotators looked at it, and whether they agree enough."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config
from heliostat.data.documents import Document
from heliostat.data.steps.interface import DocumentStep, Refusal
from heliostat.text.agreement import (
    Answer,
    Level,
    cohen_kappa,
    dawid_skene,
    fleiss_kappa,
    krippendorff_alpha,
    majority,
    true_class,
)

if TYPE_CHECKING:
    import numpy as np

LABEL = "label"
"""The metadata that holds the label a document got."""
ANNOTATORS = "annotators"
"""The metadata that says who gave each of the labels, where the source does."""

Resolved = tuple[str | None, float]
"""A label, or None when no one label leads, and how sure it is, 0 to 1."""


class LabelAgreementStep(Config):
    """Give each document one label, and keep those whose annotators agree.

    The labels are a list in the metadata `column`: one entry an annotator, null for who did not look at the
    document. `method: majority` takes the label most gave and the share of annotators who gave it;
    `dawid_skene` learns from all documents that come to it how each annotator errs, and takes the likeliest
    label and its probability. It tells annotators apart by the metadata `annotators`, or else by their places
    in the list. Documents below `min_agreement` are dropped. `level` and `order` say how far apart two labels
    are, for the alpha of all documents: labels of an ordinal scale that are no numbers need their `order`.
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
        """Whether `learn_annotators` has to see every document before one can be judged."""
        return self.method == "dawid_skene"


def make_label_agreement(
    config: LabelAgreementStep, learned: Mapping[str, "np.ndarray"] | None = None
) -> DocumentStep:
    """The step of a config; a method that needs all labels takes what `learn_annotators` gave."""
    resolve = _by_confusions(learned) if learned is not None else _by_majority
    return lambda document: judge_label(config, document, resolve(answers_of(config, document)))


def answers_of(config: LabelAgreementStep, document: Document) -> list[Answer]:
    """Who gave which label, as a text: by their names where the document has them, or by their places.

    A single value is that of one annotator, a missing column of none.
    """
    given = document.metadata.get(config.column)
    labels = [_as_text(entry) for entry in (given if isinstance(given, (list, tuple)) else [given])]
    names = document.metadata.get(ANNOTATORS)
    if not isinstance(names, (list, tuple)) or len(names) != len(labels):
        names = range(len(labels))
    return [(str(name), label) for name, label in zip(names, labels, strict=True) if label is not None]


def learn_annotators(documents: Iterable[Sequence[Answer]]) -> dict[str, "np.ndarray"]:
    """What `dawid_skene` learns about annotators and classes, whatever order the documents come in."""
    import numpy as np

    alike = Counter(tuple(sorted(answers)) for answers in documents if answers)
    if not alike:
        return {}
    rows, weights = zip(*sorted(alike.items()), strict=True)
    found = dawid_skene(rows, weights)
    return {
        "classes": np.array(found.classes),
        "annotators": np.array(found.annotators),
        "prior": found.prior,
        "confusions": found.confusions,
    }


def _by_majority(answers: Sequence[Answer]) -> Resolved:
    label, share = majority([label for _, label in answers])
    return None if label is None else str(label), share


def _by_confusions(learned: Mapping[str, "np.ndarray"]) -> Callable[[Sequence[Answer]], Resolved]:
    if not learned:
        return lambda _: (None, 0.0)
    classes = learned["classes"].tolist()
    place = {label: number for number, label in enumerate(classes)}
    number = {name: index for index, name in enumerate(learned["annotators"].tolist())}

    def resolve(answers: Sequence[Answer]) -> Resolved:
        if not answers:
            return None, 0.0
        pairs = [(number[who], place[label]) for who, label in answers]
        probabilities = true_class(pairs, learned["prior"], learned["confusions"]).round(6)
        best = probabilities.argmax()
        tie = (probabilities == probabilities[best]).sum() > 1
        return None if tie else classes[best], float(probabilities[best])

    return resolve


def judge_label(config: LabelAgreementStep, document: Document, resolved: Resolved) -> Document | Refusal:
    """What becomes of a document with this label; the score of a refusal is a number of people or a share."""
    answers = answers_of(config, document)
    label, confidence = resolved
    if len(answers) < config.min_annotators:
        return Refusal("too_few_annotators", len(answers))
    unknown = [given for _, given in answers if not _is_on_scale(config, str(given))]
    if unknown:
        return Refusal("unknown_label", None, str(unknown[0]))
    if label is None:
        return Refusal("no_majority", confidence)
    if confidence < config.min_agreement:
        return Refusal("annotators_disagree", confidence, label)
    return document.with_metadata(LABEL, label).with_metadata(config.kind, confidence)


def agreement_figures(
    config: LabelAgreementStep, documents: Sequence[Sequence[Answer]]
) -> dict[str, float | None]:
    """How far the annotators of all documents agree; a figure that is not defined is None.

    `cohen_kappa` is the mean over all pairs of annotators, each pair on the documents both looked at. Alpha
    and kappa are 1 for perfect agreement and 0 for chance; Krippendorff asks for an alpha of 0.8, and of
    0.667 where tentative conclusions are enough. Labels that are not on the config's scale do not count.
    """
    given = [
        {who: label for who, label in answers if _is_on_scale(config, str(label))} for answers in documents
    ]
    annotators = sorted({who for answers in given for who in answers})
    labels = [[answers.get(who) for who in annotators] for answers in given]
    columns = list(zip(*labels, strict=True))
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


def _is_on_scale(config: LabelAgreementStep, label: str) -> bool:
    """Whether a label has a place among the others: in the order given, or as a number."""
    if config.order is not None:
        return label in config.order
    if config.level == "nominal":
        return True
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False


def _as_text(entry: Any) -> str | None:
    """Labels are compared as texts, so that 1 and "1" from two sources are one label."""
    if isinstance(entry, float):
        if math.isnan(entry):
            return None
        entry = int(entry) if entry.is_integer() else entry  # a column with gaps comes as floats
    return entry if entry is None or isinstance(entry, str) else json.dumps(entry, sort_keys=True)
