"""Topics: documents like the reference stay, others go; by words and by embeddings."""

import io
import random
import time
from pydoc_data.topics import topics

import numpy as np
import pytest
from pydantic import ValidationError

from heliostat.data.documents import Document
from heliostat.data.steps.fitting import fit_step, references
from heliostat.data.steps.interface import Refusal
from heliostat.data.steps.topics import (
    EmbeddingTopicStep,
    LdaTopicStep,
    explain,
    fit_embedding_topic,
    fit_lda_topic,
    make_embedding_topic,
    make_lda_topic,
)
from heliostat.errors import DataError

pytestmark = pytest.mark.heavy

CONFIG = LdaTopicStep(reference="domain.jsonl", num_topics=5)


def manual() -> list[str]:
    """Pieces of the Python manual, of four paragraphs each, in no order."""
    pieces = []
    for name in sorted(topics):
        paragraphs = topics[name].split("\n\n")
        pieces += ["\n\n".join(paragraphs[i : i + 4]) for i in range(0, len(paragraphs), 4)]
    pieces = [piece for piece in pieces if len(piece) > 400]
    random.Random(0).shuffle(pieces)
    return pieces


def school(chance: random.Random) -> str:
    who = ("老师", "学生", "校长", "班主任", "同学们", "家长", "教授", "助教")
    what = (
        "讨论考试成绩",
        "整理课堂笔记",
        "介绍教学计划",
        "阅读数学教材",
        "准备期末作业",
        "布置实验报告",
        "复习英语单词",
    )
    return "".join(f"{chance.choice(who)}{chance.choice(what)}。" for _ in range(3))


def kitchen(chance: random.Random) -> str:
    who = ("厨师", "奶奶", "服务员", "客人", "邻居")
    what = ("切洋葱和土豆", "煮一锅鸡汤", "烤面包和蛋糕", "品尝辣椒酱", "清洗盘子")
    return "".join(f"{chance.choice(who)}{chance.choice(what)}。" for _ in range(3))


COOKING = (
    "Chop two onions and fry them gently in butter until golden. Add the chicken, a glass of white wine and "
    "some thyme, cover the pot and let it simmer for an hour. Season the sauce with salt, pepper and lemon "
    "juice and serve it with roasted potatoes, green beans and a slice of warm bread."
)


def document(text: str) -> Document:
    return Document("u", "file", 1, "d", text)


@pytest.fixture(scope="module")
def english() -> tuple[dict[str, np.ndarray], list[str]]:
    pieces = manual()
    return fit_lda_topic(CONFIG, iter(pieces[:-60])), pieces[-60:]


@pytest.fixture(scope="module")
def chinese() -> dict[str, np.ndarray]:
    chance = random.Random(0)
    return fit_lda_topic(CONFIG, (school(chance) for _ in range(150)))


def test_the_domain_stays_and_another_topic_goes(english):
    fitted, unseen = english
    step = make_lda_topic(CONFIG, fitted)
    results = [step(document(text)) for text in unseen]
    kept = [result for result in results if isinstance(result, Document)]
    assert len(kept) >= 54
    similarities = [result.metadata["lda_topic"]["similarity"] for result in kept]
    assert 0.3 < np.median(similarities) < 0.7  # the held-out documents were no others
    assert step(document(COOKING)) == Refusal("off_topic", 0.0)


def test_chinese_topics(chinese):
    step = make_lda_topic(CONFIG, chinese)
    chance = random.Random(1)
    assert sum(isinstance(step(document(school(chance))), Document) for _ in range(40)) >= 36
    assert all(step(document(kitchen(chance))) == Refusal("off_topic", 0.0) for _ in range(40))
    found = {term for row in chinese["top_terms"].tolist() for term in row}
    assert {"校长", "笔记", "教材"} <= found


def test_what_was_learned(english):
    fitted, _ = english
    assert fitted["topics"].shape == (5, (fitted["columns"] >= 0).sum())
    np.testing.assert_allclose(fitted["topics"].sum(axis=1), 1, rtol=1e-4)
    assert (np.diff(fitted["vocabulary"].astype(object)) > 0).all()
    assert (np.diff(fitted["held_out"]) >= 0).all()
    assert fitted["top_terms"].shape == (5, 10)
    assert all(term and term == term.lower().strip() for term in fitted["top_terms"].ravel())


def test_the_mixture_of_topics_is_the_likeliest():
    vocabulary = {"vocabulary": np.sort(split_keys("red green blue")), "columns": np.arange(3)}
    order = [int(np.flatnonzero(vocabulary["vocabulary"] == key)[0]) for key in split_keys("red green blue")]
    table = np.zeros((2, 3))
    table[:, order] = [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]]
    nats, topic = explain({**vocabulary, "topics": table}, "red red red blue green")
    best = min(
        -sum(np.log(share * table[0, order[i]] + (1 - share) * table[1, order[i]]) for i in (0, 0, 0, 2, 1))
        / 5
        for share in np.linspace(0, 1, 1001)
    )
    assert nats == pytest.approx(best, abs=1e-4)
    assert topic == 0
    assert explain({**vocabulary, "topics": table}, "blue")[1] == 1
    assert explain({**vocabulary, "topics": table}, "yellow") == (12.0, -1)
    half = explain({**vocabulary, "topics": table}, "blue yellow")[0]
    assert half == pytest.approx((12 - np.log(0.8)) / 2, abs=1e-3)


def split_keys(text: str) -> np.ndarray:
    from heliostat.text.ngram_model import split_units

    return split_units(text).keys


def test_the_limit_is_included_and_similarity_is_a_share_of_the_held_out(english):
    fitted, unseen = english
    nats = explain(fitted, unseen[0])[0]
    similarity = round(float(np.mean(fitted["held_out"] >= nats)), 4)
    at = make_lda_topic(LdaTopicStep(reference="r", min_similarity=similarity), fitted)(document(unseen[0]))
    assert at.metadata["lda_topic"]["similarity"] == similarity
    above = LdaTopicStep(reference="r", min_similarity=similarity + 0.001)
    assert make_lda_topic(above, fitted)(document(unseen[0])) == Refusal("off_topic", similarity)


def test_learning_is_deterministic_and_outlives_a_file_without_pickles():
    pieces = manual()[:80]
    files = []
    for _ in range(2):
        files.append(io.BytesIO())
        fitted = fit_lda_topic(CONFIG, iter(pieces))
        np.savez(files[-1], **fitted)
    assert files[0].getvalue() == files[1].getvalue()
    files[0].seek(0)
    with np.load(files[0], allow_pickle=False) as arrays:
        assert explain(dict(arrays), pieces[0]) == explain(fitted, pieces[0])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a word"] * 49 + [" "] * 50, "domain.jsonl: 49 documents with words; topics need 50 or more"),
        (["same words"] * 60, "domain.jsonl: no word but the most frequent comes in two documents"),
        (
            [f"lone{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(60)],
            "domain.jsonl: no word but the most",
        ),
    ],
)
def test_a_reference_without_topics_is_refused(texts, message):
    with pytest.raises(DataError, match=message):
        fit_step(CONFIG, lambda reference: iter(texts))


@pytest.mark.parametrize("text", ["", " \n", "\t"])
def test_blank_documents_are_empty(english, text):
    assert make_lda_topic(CONFIG, english[0])(document(text)) == Refusal("empty")
    step = make_embedding_topic(EMBEDDING, {"centroid": np.ones(2), "scale": np.array(1)}, embed)
    assert step(document(text)) == Refusal("empty")


@pytest.mark.parametrize(
    "text", ["\ud800" * 9, "\x00\xff" * 50, "👩‍👩‍👧", "שלום", "12 34", "\u200b", "the the"]
)
def test_strange_text_is_off_topic(english, text):
    assert make_lda_topic(CONFIG, english[0])(document(text)) == Refusal("off_topic", 0.0)


def test_fifty_megabytes_cost_no_more_than_the_part_that_is_looked_at(english):
    text = COOKING * (50_000_000 // len(COOKING))
    started = time.process_time()
    make_lda_topic(CONFIG, english[0])(document(text))
    assert time.process_time() - started < 2


EMBEDDING = EmbeddingTopicStep(reference="domain.jsonl")


def embed(texts: list[str]) -> np.ndarray:
    """Directions by the letters o (up) and e (right)."""
    counts = np.array([(text.count("e") + 1e-6, text.count("o")) for text in texts], np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def test_the_direction_of_an_embedding_decides():
    fitted = fit_embedding_topic(EMBEDDING, iter(["eeeo", " ", "eeoe", "eoee"]), embed)
    np.testing.assert_allclose(fitted["centroid"], np.array([3, 1]) / 10**0.5, rtol=1e-5)
    step = make_embedding_topic(EMBEDDING, fitted, embed)
    assert step(document("eeeo")).metadata == {"embedding_topic": 1.0}
    assert step(document("eo")).metadata["embedding_topic"] == pytest.approx(4 / 20**0.5, abs=1e-4)
    assert step(document("oooo")) == Refusal("off_topic", pytest.approx(1 / 10**0.5, abs=1e-4))


def test_similarity_is_relative_to_the_reference_unless_the_cosine_is_asked_for():
    texts = ["e", "o", "eo"]
    relative = fit_embedding_topic(EMBEDDING, iter(texts), embed)
    assert float(relative["scale"]) == pytest.approx(0.5**0.5)
    plain = EmbeddingTopicStep(reference="r", scale="cosine", min_similarity=0.8)
    fitted = fit_embedding_topic(plain, iter(texts), embed)
    assert float(fitted["scale"]) == 1.0
    assert make_embedding_topic(EMBEDDING, relative, embed)(document("e")).metadata == {
        "embedding_topic": 1.0
    }
    assert make_embedding_topic(plain, fitted, embed)(document("e")) == Refusal("off_topic", 0.7071)


def test_the_stage_gives_the_embedder():
    assert references(EMBEDDING) == ("domain.jsonl",)
    assert set(fit_step(EMBEDDING, lambda reference: iter(["eo"]), embed)) == {"centroid", "scale"}
    with pytest.raises(DataError, match=r"step embedding_topic: domain\.jsonl: no text to learn from"):
        fit_step(EMBEDDING, lambda reference: iter([" "]), embed)


def test_only_as_many_documents_are_read_as_are_used():
    def texts():
        yield from ["eo"] * 3
        raise AssertionError("read on")

    fit_embedding_topic(EmbeddingTopicStep(reference="r", max_documents=3), texts(), embed)


@pytest.mark.parametrize(
    "values",
    [
        {"num_topics": 1},
        {"min_similarity": 0},
        {"min_similarity": 1},
        {"reference": ""},
        {"max_documents": 49},
    ],
)
def test_impossible_settings_are_refused(values):
    with pytest.raises(ValidationError):
        LdaTopicStep(**{"reference": "r", **values})
