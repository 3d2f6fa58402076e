"""The quality classifier: learned from good and bad text, in English and in Chinese."""

import base64
import io
import math
import random
import time
from pydoc_data.topics import topics

import numpy as np
import pytest
from pydantic import ValidationError

from heliostat.data.documents import Document
from heliostat.data.steps.fitting import fit_step, references
from heliostat.data.steps.interface import Refusal
from heliostat.data.steps.quality import QualityStep, fit_quality, make_quality, score_quality
from heliostat.errors import DataError

pytestmark = pytest.mark.heavy

CONFIG = QualityStep(good="good/*.txt", bad="bad.jsonl")


def prose() -> list[str]:
    """Pieces of the Python manual, of four paragraphs each."""
    pieces = []
    for name in sorted(topics):
        paragraphs = topics[name].split("\n\n")
        pieces += ["\n\n".join(paragraphs[i : i + 4]) for i in range(0, len(paragraphs), 4)]
    return [piece for piece in pieces if len(piece) > 300]


def rubbish(text: str, chance: random.Random) -> str:
    words = text.split()
    return chance.choice(
        (
            " ".join(chance.sample(words, len(words))),
            base64.b64encode(text.encode()).decode(),
            "\n".join(f"{word};{chance.random():.3f};{len(word)}" for word in words),
            " | ".join(f"{word.title()} (0)" for word in words) + "\nCopyright. All rights reserved. Login",
        )
    )


def chinese(chance: random.Random) -> str:
    who = ("老师", "学生", "工程师", "我们的邻居", "图书馆的工作人员")
    what = ("讨论了新的研究报告", "整理城市的历史资料", "介绍了明年的计划", "阅读关于数据来源的文章")
    return "".join(f"{chance.choice(who)}今天{chance.choice(what)}。" for _ in range(6))


@pytest.fixture(scope="module")
def taught() -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """What was learned from half of the text, and the other half."""
    chance = random.Random(0)
    good = [*prose(), *(chinese(chance) for _ in range(200))]
    chance.shuffle(good)
    bad = [rubbish(text, chance) if text.isascii() else shuffled(text, chance) for text in good]
    half = len(good) // 2
    return fit_quality(CONFIG, iter(good[:half]), iter(bad[:half])), good[half:], bad[half:]


def shuffled(text: str, chance: random.Random) -> str:
    return "".join(chance.sample(text, len(text)))


def document(text: str) -> Document:
    return Document("u", "file", 1, "d", text)


def test_text_it_never_saw_is_sorted_rightly(taught):
    fitted, good, bad = taught
    step = make_quality(CONFIG, fitted)
    kept = [isinstance(step(document(text)), Document) for text in good]
    dropped = [isinstance(step(document(text)), Refusal) for text in bad]
    assert np.mean(kept) > 0.97
    assert np.mean(dropped) > 0.9
    assert fitted["accuracy"] > 0.95


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (
            "A class definition is an executable statement, and it binds the name of the class in the scope.",
            True,
        ),
        ("老师今天介绍了明年的计划。学生今天讨论了新的研究报告。", True),
        ("QSBjbGFzcyBkZWZpbml0aW9uIGlzIGFuIGV4ZWN1dGFibGUgc3RhdGVtZW50LCBhbmQgaXQ=", False),
        ("Home (0) | News (0) | About (0) | Contact (0)\nCopyright. All rights reserved. Login", False),
        ("师老绍天计明。年今介了的划", False),
    ],
)
def test_examples(taught, text, good):
    result = make_quality(CONFIG, taught[0])(document(text))
    if good:
        assert 0.5 <= result.metadata["quality"] <= 1
    else:
        assert result.reason == "low_quality"
        assert result.score < 0.5


def test_the_limit_is_included(taught):
    text = taught[1][0]
    score = round(score_quality(taught[0], text), 4)
    config = QualityStep(good="g", bad="b", min_score=score)
    assert make_quality(config, taught[0])(document(text)).metadata == {"quality": score}
    config = QualityStep(good="g", bad="b", min_score=score + 0.0001)
    assert make_quality(config, taught[0])(document(text)) == Refusal("low_quality", score)


def test_learning_is_deterministic_and_outlives_a_file_without_pickles(taught):
    files = []
    for _ in range(2):
        files.append(io.BytesIO())
        fitted = fit_quality(CONFIG, iter(taught[1][:60]), iter(taught[2][:60]))
        np.savez(files[-1], **fitted)
    assert files[0].getvalue() == files[1].getvalue()
    files[0].seek(0)
    with np.load(files[0], allow_pickle=False) as arrays:
        loaded = dict(arrays)
    assert score_quality(loaded, "some text") == score_quality(fitted, "some text")


def test_only_the_first_characters_are_read():
    def endless(text: str):
        while True:
            yield text

    config = QualityStep(good="g", bad="b", max_characters=1000)
    fitted = fit_quality(config, endless("A good text about optics."), endless("buy buy buy"))
    assert score_quality(fitted, "A text about optics.") > 0.5 > score_quality(fitted, "buy now buy")
    assert math.isclose(fitted["accuracy"], 1)


def test_with_few_documents_nothing_is_held_out():
    fitted = fit_quality(CONFIG, iter(["good optics", ""]), iter(["buy buy", " "]))
    assert math.isnan(fitted["accuracy"])
    assert score_quality(fitted, "optics") > 0.5


def test_the_stage_reads_both_references(taught):
    texts = {"good/*.txt": taught[1][:20], "bad.jsonl": taught[2][:20]}
    assert references(CONFIG) == ("good/*.txt", "bad.jsonl")
    fitted = fit_step(CONFIG, lambda reference: iter(texts[reference]))
    assert score_quality(fitted, taught[1][0]) > 0.5 > score_quality(fitted, taught[2][0])
    with pytest.raises(DataError, match=r"^step quality: bad.jsonl: no text to learn from"):
        fit_step(CONFIG, lambda reference: iter(texts[reference] if "good" in reference else ["", "\n"]))


@pytest.mark.parametrize("text", ["", " \n", "\t"])
def test_blank_documents_are_empty(taught, text):
    assert make_quality(CONFIG, taught[0])(document(text)) == Refusal("empty")


@pytest.mark.parametrize("text", ["\ud800" * 9, "\x00\xff" * 50, "👩‍👩‍👧", "שלום", "a", "\u200b"])
def test_strange_text_gets_a_score(taught, text):
    assert 0 <= score_quality(taught[0], text) <= 1


@pytest.mark.parametrize(
    "values", [{"good": "", "bad": "b"}, {"good": "g"}, {"good": "g", "bad": "b", "min_score": 1}]
)
def test_impossible_settings_are_refused(values):
    with pytest.raises(ValidationError):
        QualityStep(**values)


def test_fifty_megabytes_cost_no_more_than_the_part_that_is_judged(taught):
    text = taught[1][0] * (50_000_000 // len(taught[1][0]))
    started = time.process_time()
    make_quality(CONFIG, taught[0])(document(text))
    assert time.process_time() - started < 2
