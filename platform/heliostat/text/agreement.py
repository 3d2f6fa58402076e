"""How far annotators agree, and which label to believe when they do not.

Labels are given as one sequence a document, with one entry an annotator in the same order everywhere; None
where an annotator did not look at the document. Nothing here knows where labels come from.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

Label = str | float
Labels = Sequence[Sequence[Label | None]]
Answer = tuple[str, Label]
"""Who gave a label, and the label."""
Level = Literal["nominal", "ordinal", "interval"]

_TINY = 1e-300
"""Stands for a probability of 0, whose logarithm has to be taken."""


def krippendorff_alpha(
    labels: Labels, level: Level = "nominal", order: Sequence[Label] | None = None
) -> float | None:
    """Krippendorff's alpha (2011, "Computing Krippendorff's alpha-reliability"): 1 is perfect, 0 is chance.

    `interval` labels are numbers; `ordinal` ones are ranked by `order`, or as numbers without it. Linear in
    the number of labels: ordinal distances are distances of mid-ranks, and sums of squares replace pairs.

    Returns:
        None where it is not defined: no document has two labels, or all labels are the same.

    Raises:
        ValueError: labels that are no numbers, or not in `order`.
    """
    paired = [present for document in labels if len(present := _present(document)) > 1]
    counts = Counter(label for document in paired for label in document)
    if len(counts) < 2:
        return None
    total = counts.total()
    if level == "nominal":
        observed = sum(_unlike(Counter(document)) / (len(document) - 1) for document in paired)
        return 1 - observed / (_unlike(counts) / (total - 1))
    values = _mid_ranks(counts, order) if level == "ordinal" else {label: _number(label) for label in counts}
    observed = sum(_spread([values[label] for label in document]) for document in paired)
    return 1 - observed / _spread([values[label] for document in paired for label in document])


def _unlike(counts: Counter[Label]) -> int:
    """Ordered pairs of different labels."""
    return counts.total() ** 2 - sum(count**2 for count in counts.values())


def _spread(values: list[float]) -> float:
    """The squared distances of all ordered pairs, over the number of values but one."""
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    return 2 * len(values) * squares / (len(values) - 1)


def _mid_ranks(counts: Counter[Label], order: Sequence[Label] | None) -> dict[Label, float]:
    ranks, below = {}, 0.0
    for label in sorted(counts, key=_number) if order is None else order:
        ranks[label] = below + counts[label] / 2
        below += counts[label]
    missing = [label for label in counts if label not in ranks]
    if missing:
        raise ValueError(f"label {missing[0]!r} is not in the order of labels; add it")
    return ranks


def _number(label: Label) -> float:
    try:
        return float(label)
    except ValueError:
        raise ValueError(
            f"label {label!r} is no number; say in which order labels are, or use nominal"
        ) from None


def cohen_kappa(
    first: Sequence[Label | None],
    second: Sequence[Label | None],
    weights: Literal["linear", "quadratic"] | None = None,
    order: Sequence[Label] | None = None,
) -> float | None:
    """Cohen's kappa of two annotators (1960), or weighted by how far apart two labels are (1968).

    Documents that one of them did not label are left out. The distance of two labels is that of their places
    in `order`, by default the sorted labels.

    Returns:
        None where it is not defined: both use one label only, or there is no document.
    """
    pairs = Counter((a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None)
    labels = {label for pair in pairs for label in pair}
    ranks = {label: rank for rank, label in enumerate(order or sorted(labels, key=_sorting))}
    power = {None: 0, "linear": 1, "quadratic": 2}[weights]

    def distance(a: Label, b: Label) -> int:
        return abs(ranks[a] - ranks[b]) ** power if a != b else 0

    left, right = Counter[Label](), Counter[Label]()
    for (a, b), count in pairs.items():
        left[a] += count
        right[b] += count
    by_chance = sum(distance(a, b) * left[a] * right[b] for a in left for b in right)
    observed = sum(distance(a, b) * count for (a, b), count in pairs.items())
    return 1 - observed * pairs.total() / by_chance if by_chance else None


def fleiss_kappa(labels: Labels) -> float | None:
    """Fleiss' kappa of any number of annotators (1971), who need not be the same for each document.

    Documents with fewer than two labels are left out. If the others do not all have the same number of
    labels, each document counts the same.

    Returns:
        None where it is not defined: no document has two labels, or all labels are the same.
    """
    rated = [Counter(present) for document in labels if len(present := _present(document)) > 1]
    shares: dict[Label, list[float]] = {}
    agreement = []
    for counts in rated:
        num_labels = counts.total()
        agreement.append(1 - _unlike(counts) / (num_labels * (num_labels - 1)))
        for label, count in counts.items():
            shares.setdefault(label, []).append(count / num_labels)
    if len(shares) < 2:
        return None
    by_chance = math.fsum((math.fsum(of_label) / len(rated)) ** 2 for of_label in shares.values())
    return (math.fsum(agreement) / len(rated) - by_chance) / (1 - by_chance)


def majority(document: Sequence[Label | None]) -> tuple[Label | None, float]:
    """The label that most annotators of a document gave, and their share.

    None when two labels share the first place; None and 0 without any label.
    """
    present = _present(document)
    if not present:
        return None, 0.0
    (label, count), *others = Counter(present).most_common(2)
    tie = bool(others) and others[0][1] == count
    return None if tie else label, count / len(present)


@dataclass(frozen=True)
class DawidSkene:
    """What the annotators' answers say about the documents and about the annotators.

    `posteriors` (documents, classes) are the probabilities of the true class, the prior for a document
    without labels; `prior` (classes,) is how frequent each class is; `confusions` (annotators, true class,
    given class) is how each annotator answers, 0 throughout a class that an annotator never met. Float64.
    """

    classes: tuple[Label, ...]
    annotators: tuple[str, ...]
    posteriors: "np.ndarray"
    prior: "np.ndarray"
    confusions: "np.ndarray"
    rounds: int


def dawid_skene(
    documents: Sequence[Sequence[Answer]],
    weights: Sequence[float] | None = None,
    max_rounds: int = 500,
    tolerance: float = 1e-7,
) -> DawidSkene:
    """Dawid and Skene (1979), "Maximum likelihood estimation of observer error-rates using the EM algorithm".

    Starts from each document's shares of labels and ends when no probability changes by more than
    `tolerance`. `weights` says how many documents each one stands for: those with the same answers need to be
    given once only.

    Raises:
        ValueError: there is no label.
    """
    import numpy as np

    answers = [(row, who, label) for row, document in enumerate(documents) for who, label in document]
    if not answers:
        raise ValueError("no labels to learn from")
    annotators = tuple(sorted({who for _, who, _ in answers}))
    classes = tuple(sorted({label for _, _, label in answers}, key=_sorting))
    number = {who: index for index, who in enumerate(annotators)}
    place = {label: index for index, label in enumerate(classes)}
    rows, people, given = np.array([(row, number[who], place[label]) for row, who, label in answers]).T
    num_classes, num_people = len(classes), len(annotators)
    cells = people * num_classes + given

    def by_class(indices: np.ndarray, values: np.ndarray, length: int) -> np.ndarray:
        return np.stack([np.bincount(indices, column, length) for column in values.T])

    shares = np.zeros((len(documents), num_classes))
    np.add.at(shares, (rows, given), 1)
    labelled = shares.any(axis=1)
    times = np.ones(len(documents)) if weights is None else np.asarray(weights, dtype=np.float64)
    posteriors = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1)
    rounds, change = 0, math.inf
    while change > tolerance and rounds < max_rounds:
        rounds += 1
        counted = posteriors * times[:, None]
        prior = counted[labelled].sum(axis=0) / times[labelled].sum()
        told = by_class(cells, counted[rows], num_people * num_classes)
        told = told.reshape(num_classes, num_people, num_classes).swapaxes(0, 1)
        confusions = told / np.maximum(told.sum(axis=2, keepdims=True), _TINY)
        logs = np.log(np.maximum(confusions, _TINY))
        likely = by_class(rows, logs[people, :, given], len(documents)).T + np.log(np.maximum(prior, _TINY))
        likely = np.exp(likely - likely.max(axis=1, keepdims=True))
        better = likely / likely.sum(axis=1, keepdims=True)
        change = float(np.abs(better - posteriors)[labelled].max())
        posteriors = better
    return DawidSkene(classes, annotators, posteriors, prior, confusions, rounds)


def true_class(
    answers: Sequence[tuple[int, int]], prior: "np.ndarray", confusions: "np.ndarray"
) -> "np.ndarray":
    """The probability of each class to be a document's true one, (classes,), by what `dawid_skene` learned.

    `answers` are pairs of an annotator's and a given class's number.
    """
    import numpy as np

    likely = np.log(np.maximum(prior, _TINY))
    for who, label in answers:
        likely = likely + np.log(np.maximum(confusions[who, :, label], _TINY))
    likely = np.exp(likely - likely.max())
    probabilities: np.ndarray = likely / likely.sum()
    return probabilities


def _present(document: Sequence[Label | None]) -> list[Label]:
    return [label for label in document if label is not None]


def _sorting(label: Label) -> tuple[bool, Label]:
    """Numbers before texts."""
    return isinstance(label, str), label
