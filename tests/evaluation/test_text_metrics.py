"""Scores of written answers equal those of the libraries that define them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_artifacts import conversations

from heliostat.evaluation.metrics import bleu, chrf
from heliostat.evaluation.text_metrics import last_number, score_text

ANSWERS = [messages[1]["content"] for messages in conversations(60)]
# every third one right, the others cut, or that of another question: what models do
OUTPUTS = [
    text if at % 3 == 0 else text[: len(text) // 2] if at % 3 == 1 else ANSWERS[at - 1]
    for at, text in enumerate(ANSWERS)
]
WORDS = st.lists(
    st.sampled_from(["the", "cat", "sat", ".", ",", "光", "naïve", "Éa", "x1", "don't"]), max_size=12
)
SENTENCES = st.lists(st.tuples(WORDS.map(" ".join), WORDS.map(" ".join)), min_size=1, max_size=6)


def summed(metric: str, outputs, references) -> np.ndarray:
    rows = [score_text(metric, one, [right]) for one, right in zip(outputs, references, strict=True)]
    return np.array(rows).sum(axis=0)


def test_bleu_of_a_corpus_is_sacrebleus():
    import sacrebleu

    ours = float(bleu(summed("bleu", OUTPUTS, ANSWERS)))
    assert ours == pytest.approx(sacrebleu.corpus_bleu(OUTPUTS, [ANSWERS]).score, abs=1e-9)
    assert 5 < ours < 95


def test_chrf_of_a_corpus_is_sacrebleus():
    import sacrebleu

    ours = float(chrf(summed("chrf", OUTPUTS, ANSWERS)))
    assert ours == pytest.approx(sacrebleu.corpus_chrf(OUTPUTS, [ANSWERS]).score, abs=1e-9)
    assert 5 < ours < 95


@given(SENTENCES)
def test_also_of_short_and_empty_sentences(pairs):
    import sacrebleu

    outputs, references = [one for one, _ in pairs], [right for _, right in pairs]
    ours = float(bleu(summed("bleu", outputs, references)))
    assert ours == pytest.approx(sacrebleu.corpus_bleu(outputs, [references]).score, abs=1e-9)
    ours = float(chrf(summed("chrf", outputs, references)))
    assert ours == pytest.approx(sacrebleu.corpus_chrf(outputs, [references]).score, abs=1e-9)


@pytest.mark.parametrize("metric", ["rouge1", "rouge2", "rougeL"])
def test_rouge_is_the_mean_of_rouge_scores_f(metric):
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer([metric])
    theirs = [scorer.score(right, one)[metric].fmeasure for one, right in zip(OUTPUTS, ANSWERS, strict=True)]
    ours = [score_text(metric, one, [right]) for one, right in zip(OUTPUTS, ANSWERS, strict=True)]
    assert np.mean(ours) == pytest.approx(np.mean(theirs), abs=1e-12)


@pytest.mark.parametrize(
    ("metric", "answer", "references", "score"),
    [
        ("exact_match", "Paris", ["Paris"], 1),
        ("exact_match", "paris", ["Paris"], 0),
        ("normalised_match", "the  paris!", ["London", "Paris"], 1),
        ("f1", "The Eiffel Tower in Paris", ["Eiffel Tower"], 2 * 2 / 6),
        ("f1", "nothing of it", ["Eiffel Tower"], 0),
        ("f1", "", ["Eiffel Tower"], 0),
        ("numeric", "He pays 3 x $1,200 = $3,600.00.", ["#### 3600"], 1),
        ("numeric", "#### 12 apples, not 13", ["12"], 0),
        ("numeric", "I do not know", ["12"], 0),
        ("numeric", "-4", ["-4.0"], 1),
    ],
)
def test_answers_are_read_as_their_fields_do(metric, answer, references, score):
    assert score_text(metric, answer, references) == pytest.approx(score)


def test_of_several_right_answers_the_nearest_counts():
    far, near = "something else altogether", "The cat sat on the mat today."
    assert score_text("f1", "The cat sat.", [far, near]) == score_text("f1", "The cat sat.", [near])
    chosen = score_text("chrf", "The cat sat.", [far, near])
    assert chosen == score_text("chrf", "The cat sat.", [near])


def test_the_number_behind_the_mark_is_the_answer():
    assert last_number("12 + 13 = 25\n#### 25") == 25
    assert last_number("between 3.5 and 4") == 4
    assert last_number("none") is None
