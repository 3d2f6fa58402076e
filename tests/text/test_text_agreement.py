"""Agreement of annotators: the published examples to the digit, and what happens at the edges."""

import random
from collections import Counter

import numpy as np
import pytest

from heliostat.text.agreement import (
    cohen_kappa,
    dawid_skene,
    fleiss_kappa,
    krippendorff_alpha,
    majority,
    true_class,
)

N = None
# Krippendorff (2011), "Computing Krippendorff's alpha-reliability", section E: four observers, twelve units
KRIPPENDORFF = list(
    zip(
        (1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N),
        (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3),
        (N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N),
        (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N),
        strict=True,
    )
)
# Dawid and Skene (1979), table 1: 45 patients; the first three columns are one anaesthetist at three times
ANAESTHETISTS = [
    "1111111", "3334334", "1122122", "2223121", "2223222", "2223322", "1222111", "3333433", "2222223",
    "2322223", "4444444", "2223343", "1111111", "2223212", "1211111", "1112111", "1111111", "1111111",
    "2222221", "2221322", "2222222", "2222221", "2223222", "2212222", "1111111", "1111111", "2322222",
    "1111111", "1111111", "1121121", "1111111", "3333233", "1111111", "2222222", "2223232", "4334343",
    "2212232", "2323233", "3333432", "1111111", "1111111", "1212111", "2322222", "1211111", "2222222",
]  # fmt: skip
# Fleiss (1971), as worked out on Wikipedia: ten subjects, fourteen raters, five categories
FLEISS = (
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
)  # fmt: skip


@pytest.mark.parametrize(("level", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorff_as_published(level, expected):
    assert krippendorff_alpha(KRIPPENDORFF, level) == pytest.approx(expected, abs=0.0005)


def plain_alpha(labels, distance) -> float:
    """Alpha from all pairs, as it is defined: one minus observed over expected disagreement."""
    paired = [[label for label in row if label is not None] for row in labels]
    paired = [row for row in paired if len(row) > 1]
    everyone = [label for row in paired for label in row]
    observed = sum(sum(distance(a, b) for a in row for b in row) / (len(row) - 1) for row in paired)
    by_chance = sum(distance(a, b) for a in everyone for b in everyone) / (len(everyone) - 1)
    return 1 - observed / by_chance


@pytest.mark.parametrize("seed", range(5))
def test_alpha_equals_the_definition_over_all_pairs(seed):
    chance = random.Random(seed)
    labels = [[chance.choice((1, 2, 3, 5, 8, None)) for _ in range(4)] for _ in range(30)]
    counts = Counter(x for row in labels if sum(y is not None for y in row) > 1 for x in row if x is not None)

    def ordinal(a: int, b: int) -> float:
        low, high = sorted((a, b))
        return (sum(counts[x] for x in counts if low <= x <= high) - (counts[a] + counts[b]) / 2) ** 2

    assert krippendorff_alpha(labels) == pytest.approx(plain_alpha(labels, lambda a, b: a != b))
    assert krippendorff_alpha(labels, "interval") == pytest.approx(
        plain_alpha(labels, lambda a, b: (a - b) ** 2)
    )
    assert krippendorff_alpha(labels, "ordinal") == pytest.approx(
        plain_alpha(labels, lambda a, b: ordinal(a, b) if a != b else 0)
    )


def test_an_order_ranks_labels_that_are_no_numbers():
    names = {1: "差", 2: "一般", 3: "好", 4: "很好", 5: "极好", None: None}
    labels = [[names[label] for label in row] for row in KRIPPENDORFF]
    in_order = krippendorff_alpha(labels, "ordinal", ["差", "一般", "好", "很好", "极好"])
    assert in_order == pytest.approx(0.8154, abs=0.0001)
    assert krippendorff_alpha(labels, "ordinal", ["极好", "很好", "好", "一般", "差"]) == pytest.approx(
        in_order
    )
    assert krippendorff_alpha(labels, "ordinal", ["差", "极好", "好", "很好", "一般"]) < 0.8
    with pytest.raises(ValueError, match="'极好' is not in the order of labels; add it"):
        krippendorff_alpha(labels, "ordinal", ["差", "一般", "好", "很好"])
    with pytest.raises(ValueError, match="no number; say in which order"):
        krippendorff_alpha(labels, "interval")


@pytest.mark.parametrize("labels", [[], [["a"]], [["a", None], [None, "b"]], [["a", "a"], ["a", "a", None]]])
def test_without_pairs_or_differences_nothing_is_defined(labels):
    assert krippendorff_alpha(labels) is None
    assert fleiss_kappa(labels) is None


@pytest.mark.parametrize(
    ("table", "expected"),
    [((20, 5, 10, 15), 0.4), ((45, 15, 25, 15), 0.1304), ((25, 35, 5, 35), 0.2593), ((50, 0, 0, 50), 1.0)],
)
def test_cohen_as_published(table, expected):
    both = [pair for pair, count in zip(("yy", "yn", "ny", "nn"), table, strict=True) for _ in range(count)]
    assert cohen_kappa(*zip(*both, strict=True)) == pytest.approx(expected, abs=0.0001)


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
def test_cohen_equals_scikit_learn(weights):
    from sklearn.metrics import cohen_kappa_score

    chance = random.Random(3)
    first = [chance.randint(0, 4) for _ in range(300)]
    second = [min(max(label + chance.choice((-1, 0, 0, 0, 1, 2)), 0), 4) for label in first]
    expected = cohen_kappa_score(first, second, weights=weights)
    assert cohen_kappa(first, second, weights) == pytest.approx(expected)
    names = ["无", "少", "中", "多", "满"]
    named = ([names[label] for label in labels] for labels in (first, second))
    assert cohen_kappa(*named, weights, order=names) == pytest.approx(expected)


def test_cohen_leaves_out_what_one_of_them_did_not_label():
    assert cohen_kappa(["a", "b", None, "a"], ["a", "b", "b", None]) == 1
    assert cohen_kappa(["a", "a"], ["a", "a"]) is None
    assert cohen_kappa([None], ["a"]) is None


def test_fleiss_as_published():
    labels = [[kind for kind, count in enumerate(row) for _ in range(count)] for row in FLEISS]
    assert fleiss_kappa(labels) == pytest.approx(0.210, abs=0.0005)
    assert fleiss_kappa([*labels, [None] * 14, [3]]) == pytest.approx(0.210, abs=0.0005)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (["好", "好", "坏"], ("好", 2 / 3)),
        (["a", None, "a"], ("a", 1.0)),
        (["a", "b"], (None, 0.5)),
        (["a", "b", "c", "b", "a"], (None, 0.4)),
        (["a", "b", "c", "a"], ("a", 0.5)),
        ([None, None], (None, 0.0)),
        ([], (None, 0.0)),
    ],
)
def test_majority(document, expected):
    assert majority(document) == expected


def answers(labels, annotators=None):
    """Documents as pairs of who and what; by default everyone has one column."""
    return [
        [(str(annotators[i] if annotators else i), label) for i, label in enumerate(row) if label is not None]
        for row in labels
    ]


def test_dawid_and_skene_find_their_anaesthetists():
    found = dawid_skene(answers(ANAESTHETISTS, (0, 0, 0, 1, 2, 3, 4)))
    assert found.classes == ("1", "2", "3", "4")
    np.testing.assert_allclose(found.prior, [0.40, 0.42, 0.11, 0.07], atol=0.005)
    np.testing.assert_allclose(found.confusions[0].diagonal(), [0.89, 0.88, 0.66, 0.44], atol=0.005)
    np.testing.assert_allclose(found.confusions[1, 1], [0.05, 0.63, 0.31, 0.00], atol=0.006)
    np.testing.assert_allclose(found.posteriors.sum(axis=1), 1)
    majorities = [majority(patient)[0] for patient in ANAESTHETISTS]
    likeliest = [found.classes[place] for place in found.posteriors.argmax(axis=1)]
    # 2 and 36: the votes for 4 come from those who say 4 only when it is true; 12 is a tie
    changed = [i + 1 for i, pair in enumerate(zip(majorities, likeliest, strict=True)) if len(set(pair)) > 1]
    assert changed == [2, 12, 36]
    assert [majorities[place - 1] for place in changed] == ["3", None, "3"]
    assert [likeliest[place - 1] for place in changed] == ["4", "3", "4"]


def test_dawid_and_skene_is_a_fixed_point_of_both_steps():
    labels = [row[:3] for row in ANAESTHETISTS]
    found = dawid_skene(answers(labels), tolerance=1e-12, max_rounds=5000)
    for person in range(3):
        for true in range(4):
            weights = found.posteriors[:, true]
            for given, label in enumerate(found.classes):
                share = sum(w for w, row in zip(weights, labels, strict=True) if row[person] == label)
                assert found.confusions[person, true, given] == pytest.approx(share / weights.sum(), abs=1e-6)
    for row, posterior in zip(labels, found.posteriors, strict=True):
        given = [found.classes.index(label) for label in row]
        joint = found.prior * np.prod([found.confusions[p, :, g] for p, g in enumerate(given)], axis=0)
        np.testing.assert_allclose(posterior, joint / joint.sum(), atol=1e-6)


def test_dawid_and_skene_trust_the_good_annotator_more_than_two_guessers():
    chance = random.Random(0)
    truth = [chance.choice("ab") for _ in range(400)]
    good = [label if chance.random() < 0.97 else "ab"[label == "a"] for label in truth]
    fair = [label if chance.random() < 0.8 else "ab"[label == "a"] for label in truth]
    guesses = [[chance.choice("ab") for _ in truth] for _ in range(2)]
    labels = list(zip(good, fair, *guesses, strict=True))
    found = dawid_skene(answers(labels))
    resolved = [found.classes[place] for place in found.posteriors.argmax(axis=1)]
    by_vote = sum(majority(row)[0] == label for row, label in zip(labels, truth, strict=True))
    right = sum(label == expected for label, expected in zip(resolved, truth, strict=True))
    assert (right, by_vote) == (360, 274)
    assert found.confusions[0].diagonal().min() > 0.85
    assert abs(found.confusions[2].diagonal() - 0.5).max() < 0.15


def test_dawid_and_skene_give_a_document_without_labels_the_prior():
    found = dawid_skene(answers([["a", "a"], ["b", None], [None, None], []]))
    np.testing.assert_allclose(found.posteriors[2], found.prior)
    np.testing.assert_allclose(found.prior, [0.5, 0.5])
    with pytest.raises(ValueError, match="no labels"):
        dawid_skene(answers([[None], []]))


def test_dawid_and_skene_are_deterministic():
    first, second = (dawid_skene(answers(ANAESTHETISTS)) for _ in range(2))
    assert first.posteriors.tobytes() == second.posteriors.tobytes()
    assert first.rounds == second.rounds < 500


def test_a_weight_stands_for_documents_with_the_same_answers():
    alike = Counter(ANAESTHETISTS)
    once = dawid_skene(answers(alike), weights=list(alike.values()))
    each = dawid_skene(answers(ANAESTHETISTS))
    np.testing.assert_allclose(once.prior, each.prior, atol=1e-9)
    np.testing.assert_allclose(once.confusions, each.confusions, atol=1e-9)


def test_what_was_learned_gives_each_document_its_probabilities_again():
    found = dawid_skene(answers(ANAESTHETISTS))
    for patient, posterior in zip(ANAESTHETISTS, found.posteriors, strict=True):
        pairs = [(person, found.classes.index(label)) for person, label in enumerate(patient)]
        np.testing.assert_allclose(true_class(pairs, found.prior, found.confusions), posterior, atol=1e-12)
