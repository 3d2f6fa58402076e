"""Perplexity limits: what stays and what goes, with a model of given text and with another scorer."""

import math
import time
from pydoc_data.topics import topics

import numpy as np
import pytest
from pydantic import ValidationError

from heliostat.data.documents import Document
from heliostat.data.steps.fitting import fit_step, references
from heliostat.data.steps.interface import Refusal
from heliostat.data.steps.length import LengthStep
from heliostat.data.steps.perplexity import (
    ModelPerplexity,
    NgramPerplexity,
    PerplexityStep,
    ServedPerplexity,
    fit_perplexity,
    make_perplexity,
)
from heliostat.errors import DataError

NGRAM = NgramPerplexity(reference="manual.txt")
SENTENCES = [
    f"{who}在{place}{verb}{what}。"
    for who in ("老师", "学生", "工程师", "我们的邻居")
    for place in ("学校里", "办公室", "公园的湖边", "图书馆")
    for verb in ("讨论了", "阅读", "整理", "介绍了")
    for what in ("新的报告", "城市的历史", "数据的来源", "明年的计划")
]


def document(text: str) -> Document:
    return Document("u", "file", 1, "d", text)


@pytest.fixture(scope="module")
def english() -> dict[str, np.ndarray]:
    return fit_perplexity(PerplexityStep(model=NGRAM), (topics[name] for name in sorted(topics)))


@pytest.fixture(scope="module")
def chinese() -> dict[str, np.ndarray]:
    return fit_perplexity(PerplexityStep(model=NGRAM), iter(SENTENCES[::3]))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("The assert statement is a convenient way to insert debugging assertions into a program.", None),
        ("program a into convenient assertions insert way the to is statement debugging assert", "high"),
        ("zxq vbnm qwrt plkj hgfd zzxc poiu mnbv", "high"),
        ("ä½ å¥½ä¸–ç•Œ ä½ å¥½", "high"),
        ("老师在学校里阅读城市的历史。", "high"),
    ],
)
def test_english(english, text, reason):
    result = make_perplexity(PerplexityStep(model=NGRAM), english)(document(text))
    if reason:
        assert result.reason == "high_perplexity"
        assert result.score > 150
    else:
        assert 1 < result.metadata["perplexity"] <= 150


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (SENTENCES[1], None),
        (SENTENCES[17] + SENTENCES[34], None),
        ("历读在城史里学阅市老的师校。", "high"),
        ("The assert statement", "high"),
    ],
)
def test_chinese(chinese, text, reason):
    result = make_perplexity(PerplexityStep(model=NGRAM, max_perplexity=10), chinese)(document(text))
    assert result.reason == "high_perplexity" if reason else result.metadata["perplexity"] <= 10


def test_all_messages_of_a_conversation_are_judged_together(english):
    step = make_perplexity(PerplexityStep(model=NGRAM), english)
    good = {"role": "user", "content": "What is the assert statement?"}
    messages = (good, {"role": "assistant", "content": "zxq vbnm qwrt plkj hgfd zzxc"})
    assert isinstance(step(Document("u", "f", 1, "d", messages=messages)), Refusal)


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b\u200b"])
def test_without_words_a_document_is_empty(english, text):
    assert make_perplexity(PerplexityStep(model=NGRAM), english)(document(text)) == Refusal("empty")


@pytest.mark.parametrize(
    ("limits", "perplexity", "expected"),
    [
        ({}, 150, 150.0),
        ({}, 150.1, Refusal("high_perplexity", 150.1)),
        ({"min_perplexity": 5}, 5, 5.0),
        ({"min_perplexity": 5}, 4.99, Refusal("low_perplexity", 4.99)),
        ({"max_perplexity": None}, 123456, 123500.0),
        ({}, math.inf, Refusal("high_perplexity", 1e300)),
        ({}, math.nan, Refusal("empty")),
    ],
)
def test_limits_are_included_and_any_scorer_will_do(limits, perplexity, expected):
    asked = []

    def scorer(texts: list[str]) -> list[float]:
        asked.extend(texts)
        return [perplexity]

    config = PerplexityStep(model=ModelPerplexity(reference="model-1"), **limits)
    result = make_perplexity(config, {}, scorer)(document("text 文本"))
    assert asked == ["text 文本"]
    assert (
        result == expected if isinstance(expected, Refusal) else result.metadata == {"perplexity": expected}
    )


def test_what_has_to_be_read_before():
    assert references(PerplexityStep(model=NGRAM)) == ("manual.txt",)
    assert references(PerplexityStep(model=ModelPerplexity(reference="m"))) == ()
    assert references(PerplexityStep(model=ServedPerplexity(url="http://h/v1", model="m"))) == ()
    assert references(LengthStep(min_words=1)) == ()


def test_the_stage_fits_it_from_its_reference():
    read = []

    def read_texts(reference: str):
        read.append(reference)
        return iter(SENTENCES)

    config = PerplexityStep(model=NGRAM)
    fitted = fit_step(config, read_texts)
    assert read == ["manual.txt"]
    assert isinstance(make_perplexity(config, fitted)(document(SENTENCES[0])), Document)
    with pytest.raises(
        DataError, match=r"^step perplexity: manual.txt: no words to learn from; give a reference"
    ):
        fit_step(config, lambda reference: iter(["", " "]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": NGRAM, "min_perplexity": 200}, "min_perplexity=200 is above max_perplexity=150"),
        ({"model": {"kind": "ngram", "reference": ""}}, "at least 1 character"),
        ({"model": {"kind": "ngram", "reference": "x", "order": 9}}, "less than or equal to 5"),
        ({"model": {"kind": "bert"}}, "'ngram', 'model', 'served'"),
        ({"model": {"kind": "served", "url": "host", "model": "m"}}, "pattern"),
        ({}, "Field required"),
    ],
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        PerplexityStep.model_validate(values)


@pytest.mark.parametrize(
    "text", ["\ud800\udc00\ud800", "\x00\x01\x02" * 50, "😀👩‍👩‍👧🏳️‍🌈", "مرحبا بالعالم שלום"]
)
def test_strange_text_is_unlikely_but_no_error(english, text):
    result = make_perplexity(PerplexityStep(model=NGRAM), english)(document(text))
    assert result.reason == "high_perplexity"
    assert 150 < result.score < math.inf


@pytest.mark.slow
def test_a_document_of_fifty_megabytes_takes_seconds(english):
    text = (topics["assert"] + topics["class"]) * 13_000
    assert len(text) > 50_000_000
    started = time.process_time()
    make_perplexity(PerplexityStep(model=NGRAM), english)(document(text))
    assert time.process_time() - started < 120
