"""Decontamination: which documents have runs of an evaluation text, by the plain definition and in detail."""

import random
import re
import time
from itertools import chain

import numpy as np
import pytest
from pydantic import ValidationError

from heliostat.data.decontamination import Decontaminator, EvaluationNgrams, fit, make_decontaminate
from heliostat.data.dedup_config import DecontaminateStep
from heliostat.data.documents import Document
from heliostat.data.steps.interface import Refusal

QUESTION = (
    "If a train leaves Oslo at 10:30 with 240 passengers, and 17 of them get off in Hamar, how many are left?"
)
SHORT = "Who wrote the novel about the white whale?"
CHINESE = "小明有十二个苹果，他给了小红5个，又给了小刚三个，还剩下几个苹果？"
EVALUATION = [QUESTION, SHORT, "Name the capital of Peru.", CHINESE]
LABELS = ["math:1", "trivia:1", "trivia:2", "cmath:1"]
DEFAULT = DecontaminateStep(against=("evaluation",))


def step_of(texts: list[str], labels: list[str], config: DecontaminateStep = DEFAULT):
    return make_decontaminate(config, fit(texts, labels, config).arrays())


STEP = step_of(EVALUATION, LABELS)


def judge(text: str, step=STEP) -> Refusal | None:
    document = Document("u", "file", 1, "d", text)
    result = step(document)
    return None if result is document else result


def test_a_document_that_quotes_a_question_is_dropped_and_the_question_named():
    assert judge(f"Today's riddle. {QUESTION} Think!") == Refusal(
        "contaminated", 10.0, "10 of 10 runs of math:1, from word 4 on"
    )


def test_case_punctuation_and_layout_do_not_hide_a_question():
    hidden = "IF A TRAIN - leaves *Oslo*\nat 10:30, with 240 passengers and “17” of them, get off in hamar"
    assert judge(hidden) == Refusal("contaminated", 6.0, "6 of 10 runs of math:1, from word 1 on")


def test_thirteen_words_are_too_many_to_share_and_twelve_are_not():
    words = QUESTION.split()
    assert judge(" ".join(words[3:16])) == Refusal(
        "contaminated", 1.0, "1 of 10 runs of math:1, from word 1 on"
    )
    assert judge(" ".join(words[3:15])) is None


def test_the_same_question_with_other_numbers_is_another_question():
    assert judge(QUESTION.replace("240", "300").replace("17", "19")) is None


def test_a_short_evaluation_text_counts_as_a_whole_only():
    assert judge(f"Quiz: {SHORT.lower()} Melville.") == Refusal(
        "contaminated", 1.0, "1 of 1 runs of trivia:1, from word 2 on"
    )
    assert judge("He wrote the novel about the white whale.") is None
    assert judge("Name the capital of Peru. It is Lima.") is None


def test_chinese_questions_are_found_by_their_characters():
    assert judge(f"数学题：{CHINESE}答案是四个。") == Refusal(
        "contaminated", 17.0, "17 of 17 runs of cmath:1, from word 4 on"
    )
    assert judge("小明有十个苹果，他给了小红6个，又给了小刚三个。") is None


@pytest.mark.parametrize("text", ["", " \n", "\x00\ud800", "🎉" * 50, "مرحبا " * 40, "word " * 200])
def test_what_shares_nothing_stays(text):
    assert judge(text) is None


def test_conversations_are_judged_as_a_whole():
    messages = ({"role": "user", "content": QUESTION}, {"role": "assistant", "content": "223"})
    result = STEP(Document("u", "file", 1, "d", messages=messages))
    assert isinstance(result, Refusal)


def test_the_evaluation_text_with_most_runs_is_named():
    letters = "a b c d e f g h i j k l m n o p q r s t u v w x y z"
    step = step_of([letters[:29], letters[4:], letters], ["few", "many", "all"])
    assert judge(letters[2:], step).detail == "13 of 14 runs of all, from word 1 on"
    assert judge(letters[4:], step).detail == "12 of 12 runs of many, from word 1 on"


@pytest.mark.parametrize(
    ("limits", "shared_words", "dropped"),
    [
        ({"min_matches": 3}, 14, False),
        ({"min_matches": 3}, 15, True),
        ({"min_overlap": 0.5}, 15, False),
        ({"min_overlap": 0.5}, 16, True),
        ({"min_overlap": 1.0}, 19, False),
        ({"min_overlap": 1.0}, 20, True),
        ({"min_matches": 5, "min_overlap": 0.1}, 16, False),
    ],
)
def test_limits_on_runs_and_their_share(limits, shared_words, dropped):
    config = DecontaminateStep(against=("x",), **limits)
    words = [f"w{letter}" for letter in "abcdefghijklmnopqrst"]
    step = step_of([" ".join(words)], ["e"], config)
    text = " ".join(words[:shared_words]) + " and more"
    assert (judge(text, step) is not None) is dropped
    assert (judge(f"{text} {text}", step) is not None) is dropped, "saying it twice is no second run"


def test_a_short_text_needs_all_of_its_runs_when_it_has_fewer_than_asked():
    step = step_of(EVALUATION, LABELS, DecontaminateStep(against=("x",), min_matches=11))
    assert judge(QUESTION, step).detail == "10 of 10 runs of math:1, from word 1 on"
    assert judge(SHORT, step).detail == "1 of 1 runs of trivia:1, from word 1 on"
    assert judge(" ".join(QUESTION.split()[1:]), step) is None


def test_no_evaluation_texts_drop_nothing():
    assert judge(QUESTION, step_of([], [])) is None
    assert judge(QUESTION, step_of(["", "too short"], ["a", "b"])) is None


def test_what_was_fitted_can_be_kept_as_arrays():
    found = fit(EVALUATION, LABELS, DEFAULT)
    assert found.num_ngrams.tolist() == [10, 1, 0, 17]
    assert sorted(found.sizes.tolist()) == [8] + [13] * 27
    assert np.array_equal(found.hashes, np.sort(found.hashes))
    again = EvaluationNgrams.of(found.arrays())
    assert all(array.dtype != object for array in again.arrays().values())
    assert again.labels.tolist() == LABELS


def test_a_run_that_all_evaluation_texts_share_names_sixteen_of_them():
    prompt = "Answer the following question with one of the letters a b c or d and explain why"
    texts = [f"{prompt} question {number}" for number in range(40)]
    found = fit(texts, [str(number) for number in range(40)], DEFAULT)
    assert found.num_ngrams.tolist() == [7] * 16 + [1] * 24
    step = make_decontaminate(DEFAULT, found.arrays())
    assert judge(f"{prompt} question 7", step).detail == "7 of 7 runs of 7, from word 1 on"
    assert judge(f"{prompt} question 30", step).detail == "6 of 7 runs of 0, from word 1 on"


def plain_contaminated(text: str, evaluation: list[str]) -> tuple[int, int, int]:
    """Number of the text with most runs, how many, and the first word, as defined."""
    words_of = [re.findall(r"[\u4e00-\u9fff]|[a-z0-9]+", each.lower()) for each in (text, *evaluation)]
    best = (-1, 0, 0)
    for number, words in enumerate(words_of[1:]):
        size = min(13, len(words))
        if size < 8:
            continue
        runs = {tuple(words[at : at + size]) for at in range(len(words) - size + 1)}
        said = [tuple(words_of[0][at : at + size]) for at in range(len(words_of[0]) - size + 1)]
        there = [at for at, run in enumerate(said) if run in runs]
        if len({said[at] for at in there}) > best[1]:
            best = (number, len({said[at] for at in there}), there[0])
    return best


@pytest.mark.parametrize("alphabet", [["a ", "b ", "c, "], list("中文。"), ["a ", "中", "7\n"]])
def test_contamination_is_that_of_the_plain_definition_in_any_batches(alphabet):
    random_ = random.Random(0)
    texts = [
        "".join(random_.choices(alphabet[:2], weights=(9, 1), k=random_.randrange(60))) for _ in range(60)
    ]
    evaluation = [
        "".join(random_.choices(alphabet, weights=(9, 1, 1), k=random_.randrange(30))) for _ in range(12)
    ]
    decontaminator = Decontaminator(fit(evaluation, [""] * len(evaluation), DEFAULT), DEFAULT)
    expected = [plain_contaminated(text, evaluation) for text in texts]
    assert decontaminator.contaminated(texts).tolist() == expected
    halves = (decontaminator.contaminated(texts[part]).tolist() for part in (slice(0, 23), slice(23, None)))
    assert list(chain(*halves)) == expected
    assert 5 < sum(number >= 0 for number, _, _ in expected) < 60


def test_limits_that_cannot_be_are_refused():
    with pytest.raises(ValidationError, match="set it to 5 to look for no shorter texts"):
        DecontaminateStep(against=("x",), ngram_words=5)
    with pytest.raises(ValidationError, match="at least 1 item"):
        DecontaminateStep(against=())


@pytest.mark.heavy
def test_a_document_of_50_mb_against_a_large_set_takes_linear_time():
    random_ = random.Random(0)
    vocabulary = [f"w{number}" for number in range(5000)]
    evaluation = [" ".join(random_.choices(vocabulary, k=30)) for _ in range(20_000)]
    text = " ".join(random_.choices(vocabulary, k=8_700_000)) + " " + evaluation[777]
    decontaminator = Decontaminator(fit(evaluation, [""] * len(evaluation), DEFAULT), DEFAULT)
    started = time.process_time()
    assert decontaminator.contaminated([text]).tolist() == [(777, 18, 8_700_000)]
    assert time.process_time() - started < 40  # 3 s alone on the machine
