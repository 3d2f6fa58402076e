"""One label from several annotators: which, whether it is kept, and how far everyone agrees."""

import random

import pytest
from pydantic import ValidationError

from heliostat.data.documents import Document
from heliostat.data.steps.agreement import (
    LabelAgreementStep,
    agreement_figures,
    answers_of,
    judge_label,
    learn_annotators,
    make_label_agreement,
)
from heliostat.data.steps.interface import Refusal


def labelled(labels, column: str = "labels") -> Document:
    return Document("u", "file", 1, "d", "文本 text", metadata={column: labels})


@pytest.mark.parametrize(
    ("labels", "label", "share"),
    [
        (["正面", "正面", "负面"], "正面", 2 / 3),
        (["spam", "spam"], "spam", 1.0),
        (["ham", None, "ham", "spam", "ham"], "ham", 0.75),
        (["a", "b", "a", "c"], "a", 0.5),
        ([1, "1", 2], "1", 2 / 3),
        ([True, True, None], "true", 1.0),
    ],
)
def test_agreed_labels_are_kept(labels, label, share):
    document = make_label_agreement(LabelAgreementStep())(labelled(labels))
    assert document.metadata == {"labels": labels, "label": label, "label_agreement": share}


@pytest.mark.parametrize(
    ("labels", "refusal"),
    [
        (["正面", "负面"], Refusal("no_majority", 0.5)),
        (["a", "b", "c"], Refusal("no_majority", 1 / 3)),
        (["a", "a", "b", "c", "d"], Refusal("annotators_disagree", 0.4, "a")),
        (["a"], Refusal("too_few_annotators", 1)),
        (["a", None, None], Refusal("too_few_annotators", 1)),
        ([], Refusal("too_few_annotators", 0)),
        (None, Refusal("too_few_annotators", 0)),
        ("好", Refusal("too_few_annotators", 1)),
    ],
)
def test_others_are_refused_with_a_reason(labels, refusal):
    assert make_label_agreement(LabelAgreementStep())(labelled(labels)) == refusal


def test_a_document_without_the_column_has_no_annotators():
    assert make_label_agreement(LabelAgreementStep(column="votes"))(labelled(["a", "a"])) == Refusal(
        "too_few_annotators", 0
    )
    step = make_label_agreement(LabelAgreementStep(column="votes", min_annotators=1))
    assert step(labelled(["a"], "votes")).metadata["label"] == "a"


def test_limits_are_included():
    config = LabelAgreementStep(min_agreement=0.75, min_annotators=4)
    assert make_label_agreement(config)(labelled(list("aaab"))).metadata["label"] == "a"
    assert make_label_agreement(config)(labelled(list("aab"))) == Refusal("too_few_annotators", 3)
    assert make_label_agreement(config)(labelled(list("aaabb"))) == Refusal("annotators_disagree", 0.6, "a")


def learned_step(config: LabelAgreementStep, documents: list[Document]):
    """The step when it has learned from these documents."""
    return make_label_agreement(config, learn_annotators(answers_of(config, each) for each in documents))


def test_dawid_skene_settles_a_tie_by_who_is_trusted():
    config = LabelAgreementStep(method="dawid_skene", min_agreement=0.8)
    documents = [labelled(labels) for labels in [list("aab"), list("bba"), list("aaa"), list("bbb")] * 10]
    documents += [labelled(["a", None, "b"]), labelled([None, None, None])]
    step = learned_step(config, documents)
    assert [step(document).metadata["label"] for document in documents[:4]] == ["a", "b", "a", "b"]
    tie = step(documents[40])
    assert tie.metadata["label"] == "a"
    assert tie.metadata["label_agreement"] > 0.99
    assert step(documents[41]) == Refusal("too_few_annotators", 0)
    assert judge_label(config, documents[0], ("b", 0.6)) == Refusal("annotators_disagree", 0.6, "b")


def test_annotators_are_told_apart_by_their_names_where_they_have_some():
    # Wei and Ana agree always, Bo never; in half of the documents Bo's label comes first
    config = LabelAgreementStep(method="dawid_skene", min_agreement=0.8)

    def named(**labels) -> Document:
        names = {"annotators": list(labels)}
        return Document("u", "file", 1, "d", "文本 text", metadata={"labels": list(labels.values())} | names)

    documents = []
    for label, other in [("好", "差"), ("差", "好")] * 10:
        documents += [named(Wei=label, Ana=label, Bo=other), named(Bo=other, Wei=label, Ana=label)]
    split = named(Bo="好", Wei="差")
    assert learned_step(config, [*documents, split])(split).metadata["label"] == "差"
    by_place = [
        Document("u", "f", 1, "d", "t", metadata={"labels": each.metadata["labels"]}) for each in documents
    ]
    assert isinstance(learned_step(config, by_place)(by_place[1]), Refusal)


def test_what_is_learned_does_not_depend_on_the_order_of_documents():
    chance = random.Random(0)
    documents = [[(str(who), chance.choice("abc")) for who in range(3)] for _ in range(300)]
    once = learn_annotators(documents)
    again = learn_annotators(chance.sample(documents, len(documents)))
    assert {name: array.tobytes() for name, array in once.items()} == {
        name: array.tobytes() for name, array in again.items()
    }


def test_without_any_label_nothing_is_learned_and_all_are_refused():
    config = LabelAgreementStep(method="dawid_skene")
    assert learn_annotators([[], []]) == {}
    assert learned_step(config, [])(labelled([None])) == Refusal("too_few_annotators", 0)


def figures_of(config: LabelAgreementStep, labels: list) -> dict:
    return agreement_figures(config, [answers_of(config, labelled(each)) for each in labels])


def test_figures_of_all_documents():
    labels = [["1", "1"]] * 20 + [["1", "2"]] * 5 + [["2", "1"]] * 10 + [["2", "2"]] * 15
    figures = figures_of(LabelAgreementStep(level="interval"), labels)
    assert figures == {
        "krippendorff_alpha": pytest.approx(0.4, abs=0.01),
        "fleiss_kappa": pytest.approx(0.3939, abs=0.0001),
        "cohen_kappa": pytest.approx(0.4),
    }
    nothing = {"krippendorff_alpha": None, "fleiss_kappa": None, "cohen_kappa": None}
    assert figures_of(LabelAgreementStep(), []) == nothing
    assert figures_of(LabelAgreementStep(), [["a"], [None, "b"]]) == nothing


def test_an_ordinal_scale_has_an_order():
    labels = [["低", "低"], ["中", "高"], ["高", "高"], ["低", "中", "中"]]
    near = figures_of(LabelAgreementStep(level="ordinal", order=("低", "中", "高")), labels)
    far = figures_of(LabelAgreementStep(level="ordinal", order=("中", "低", "高")), labels)
    assert near["krippendorff_alpha"] > far["krippendorff_alpha"]


def test_a_label_that_is_not_on_the_scale_goes_by_name_and_counts_in_no_figure():
    ordered = LabelAgreementStep(level="ordinal", order=("低", "中"))
    assert make_label_agreement(ordered)(labelled(["低", "高", "低"])) == Refusal("unknown_label", None, "高")
    numbers = LabelAgreementStep(level="interval")
    assert make_label_agreement(numbers)(labelled(["1", "pos", 1])) == Refusal("unknown_label", None, "pos")
    assert make_label_agreement(numbers)(labelled([1, 1.5, 1])).metadata["label"] == "1"
    labels = [["1", "1", "pos"], ["2", "2", "1"], ["3", "3", None]]
    assert figures_of(numbers, labels) == figures_of(numbers, [["1", "1"], ["2", "2", "1"], ["3", "3"]])


def test_figures_go_by_names_where_annotators_have_some():
    votes = [("Wei", "Ana"), ("Ana", "Bo"), ("Bo", "Wei")] * 4
    said = {"Wei": "ab", "Ana": "ab", "Bo": "ba"}
    answers = [[(who, said[who][number % 2]) for who in pair] for number, pair in enumerate(votes)]
    assert agreement_figures(LabelAgreementStep(), answers)["cohen_kappa"] == pytest.approx((1 - 1 - 1) / 3)


@pytest.mark.parametrize(("labels", "kept"), [([1, 1.0], "1"), ([True, True], "true"), ([2.5, 2.5], "2.5")])
def test_a_number_is_one_label_however_its_column_holds_it(labels, kept):
    assert make_label_agreement(LabelAgreementStep())(labelled(labels)).metadata["label"] == kept


def test_a_missing_number_is_no_label():
    refusal = make_label_agreement(LabelAgreementStep())(labelled([1, float("nan")]))
    assert refusal == Refusal("too_few_annotators", 1)


def test_dawid_and_skene_settle_no_tie():
    config = LabelAgreementStep(method="dawid_skene")
    documents = [labelled(["x", "y"]), labelled(["y", "x"])]
    assert learned_step(config, documents)(documents[0]) == Refusal("no_majority", 0.5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"order": ("a", "b")}, "order needs level=ordinal, got level=nominal"),
        ({"level": "ordinal", "order": ("a", "a")}, "order names a label twice"),
        ({"min_agreement": 1.5}, "less than or equal to 1"),
        ({"method": "vote"}, "'majority' or 'dawid_skene'"),
    ],
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        LabelAgreementStep(**values)
