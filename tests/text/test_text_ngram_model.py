"""The small language model: its units, its arithmetic, what it finds likely; in English and in Chinese."""

import base64
import io
import math
import random
import time
from collections import Counter, defaultdict
from itertools import pairwise, product
from pydoc_data.topics import topics

import numpy as np
import pytest

from heliostat.text.ngram_model import (
    BOUNDARY,
    CHUNK,
    LETTER_NATS,
    UNKNOWN,
    NgramModel,
    NgramTable,
    estimate,
    mix,
    split_units,
    unit_nats,
    units_seen,
)

pytestmark = pytest.mark.heavy

CHINESE = [
    f"{time}，{who}{place}{verb}{what}。"
    for time, who, place, verb, what in product(
        ("昨天下午", "今天早上", "每年春天", "开会以后"),
        ("老师和学生", "年轻的工程师", "我们的邻居", "图书馆的工作人员"),
        ("在学校里", "在办公室", "在公园的湖边"),
        ("讨论了", "仔细阅读", "认真整理", "介绍了"),
        ("新的研究报告", "城市的历史", "数据的来源", "明年的计划"),
    )
]


def units_of(text: str) -> list[str]:
    units = split_units(text)
    borders = [*units.starts.tolist(), len(text)]
    return [text[start:end].rstrip() for start, end in pairwise(borders)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Hello, wörld!! it's", ["Hello", ",", "wörld", "!!", "it", "'", "s"]),
        ("x_1 = 12.5  ---", ["x", "_", "1", "=", "12", ".", "5", "---"]),
        ("你好，世界。GPU很快", ["你", "好", "，", "世", "界", "。", "GPU", "很", "快"]),
        ("カタカナ", ["カ", "タ", "カ", "ナ"]),
        ("한국어 텍스트", ["한국어", "텍스트"]),
        ("שלום עולם", ["שלום", "עולם"]),
        ("😀😀𠀀", ["😀😀", "𠀀"]),
        ("\ud800\x00\x01", ["\ud800", "\x00", "\x01"]),
        ("y" * 45, ["y" * 20, "y" * 20, "y" * 5]),
        ("", []),
        (" \n\u200b\u3000", []),
    ],
)
def test_units(text, expected):
    assert units_of(text) == expected


def test_case_and_digits_do_not_count_but_letters_do():
    keys = split_units("Alpha ALPHA 12 97 123 alphb ahpla").keys.tolist()
    assert keys[0] == keys[1] != keys[5]
    assert keys[2] == keys[3] != keys[4]
    assert len(set(keys)) == 5


def test_a_table_gives_back_what_was_put_in_and_nothing_else():
    random_numbers = np.random.default_rng(0)
    keys = np.unique(random_numbers.integers(0, 2**64, 30_000, np.uint64))
    nats, backoffs = -20 * random_numbers.random((2, len(keys)))
    table = NgramTable.build(keys, nats, backoffs)
    rows = table.find(keys)
    figures = rows.view(np.uint16).reshape(-1, 4)
    np.testing.assert_allclose(figures[:, 1] / -2048, nats, atol=1 / 4000)
    np.testing.assert_allclose(figures[:, 0] / -2048, backoffs, atol=1 / 4000)
    assert not table.find(random_numbers.integers(0, 2**64, 30_000, np.uint64)).any()


def plain_kneser_ney(sequences: list[list[int]], order: int):
    """Interpolated modified Kneser-Ney as in the paper, with dictionaries: p(word, context)."""
    raw: list[Counter] = [Counter() for _ in range(order + 1)]
    for words in sequences:
        for end in range(1, len(words)):
            for n in range(1, min(order, end + 1) + 1):
                raw[n][tuple(words[end - n + 1 : end + 1])] += 1
    counts, discounts, totals, followers = {}, {}, {}, {}
    for n in range(1, order + 1):
        before = Counter(longer[1:] for longer in raw[n + 1]) if n < order else raw[n]
        counts[n] = {gram: raw[n][gram] if n > 1 and gram[0] == 0 else before[gram] for gram in raw[n]}
        kinds = Counter(counts[n].values())
        discounts[n] = (0, 0.5, 1.0, 1.5)
        if kinds[1] and kinds[2] and kinds[3]:
            y = kinds[1] / (kinds[1] + 2 * kinds[2])
            found = [c - (c + 1) * y * kinds[c + 1] / kinds[c] for c in (1, 2, 3)]
            discounts[n] = (0, *found) if min(found) > 0 else discounts[n]
        totals[n], followers[n] = Counter(), defaultdict(list)
        for gram, count in counts[n].items():
            totals[n][gram[:-1]] += count
            followers[n][gram[:-1]].append(discounts[n][min(count, 3)])
    vocabulary = {gram[0] for gram in raw[1]} | {-1}

    def probability(word: int, context: tuple[int, ...]) -> float:
        n = len(context) + 1
        lower = probability(word, context[1:]) if context else 1 / len(vocabulary)
        if not totals[n][context]:
            return lower
        count = counts[n].get((*context, word), 0)
        share = count - discounts[n][min(count, 3)]
        return (share + sum(followers[n][context]) * lower) / totals[n][context]

    return vocabulary, probability


def keys_of(words: list[int]) -> np.ndarray:
    """0 is the boundary and -1 a word that never came."""
    return np.where(np.array(words) == 0, BOUNDARY, mix(np.array(words) + 10))


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_the_table_equals_kneser_ney_with_dictionaries_and_sums_to_one(order, seed):
    chance = random.Random(seed)
    sequences = [
        [0, *(1 + int(chance.expovariate(0.4)) for _ in range(chance.randint(1, 12))), 0] for _ in range(40)
    ]
    vocabulary, probability = plain_kneser_ney(sequences, order)
    joined = [0, *(word for words in sequences for word in words[1:])]
    table = estimate(keys_of(joined), order)
    for words in [*sequences, [0, 3, 77, 2, 1]]:
        for end in range(1, len(words)):
            context = tuple(words[max(end - order + 1, 0) : end])
            found = {}
            for word in vocabulary:
                sequence = keys_of([*words[:end], word])
                found[word] = math.exp(-unit_nats(table, order, sequence)[0][-1])
                assert found[word] == pytest.approx(probability(word, context), rel=1e-3)
            assert sum(found.values()) == pytest.approx(1, abs=1e-3)


def test_nothing_is_seen_through_a_boundary():
    units = keys_of([0, 5, 6, 0, 7, 8, 0])
    assert units_seen(units).tolist() == [0, 1, 2, 3, 1, 2, 3]
    table = estimate(units, 3)
    alone = unit_nats(table, 3, keys_of([0, 7, 8, 0]))[0]
    behind = unit_nats(table, 3, units, units_seen(units))[0]
    assert behind[4:].tolist() == alone[1:].tolist()


def test_an_unknown_word_costs_unknown_and_its_letters():
    model = NgramModel.fit(["red red green green blue"], 2, 10**6)
    measured = model.measure("Bluü")
    unknown = unit_nats(model.words, 2, np.append(BOUNDARY, UNKNOWN))[0][1]
    letters = np.concatenate((BOUNDARY, split_units("B l u ü").letters[::2], BOUNDARY))
    costs, new = unit_nats(model.letters, 4, letters, units_seen(letters))
    assert new.tolist() == [False] * 4 + [True, False]
    assert measured.nats == pytest.approx(unknown + costs[1:].sum() + LETTER_NATS)
    assert (measured.num_units, measured.num_unknown) == (1, 1)
    assert model.measure("green").num_unknown == 0


@pytest.fixture(scope="module")
def english() -> tuple[NgramModel, list[str]]:
    """A model of the Python manual, and the chapters it did not see."""
    chapters = [topics[name] for name in sorted(topics)]
    return NgramModel.fit(chapters[20:], 3, 10**7), [text for text in chapters[:20] if len(text) > 1000]


@pytest.fixture(scope="module")
def chinese() -> tuple[NgramModel, list[str]]:
    sentences = CHINESE.copy()
    random.Random(0).shuffle(sentences)
    return NgramModel.fit(sentences[30:], 3, 10**7), sentences[:30]


def spoilt(text: str) -> dict[str, str]:
    chance = random.Random(0)
    gap = " " if " " in text else ""
    words = text.split() if gap else list(text)
    row = "asdfghjklqwertyuiopzxcvbnm"
    return {
        "shuffled": gap.join(chance.sample(words, len(words))),
        "keyboard": " ".join("".join(chance.choices(row, k=chance.randint(2, 9))) for _ in words),
        "base64": base64.b64encode(text.encode()).decode(),
        "mojibake": ("“" + text + "”").encode().decode("cp1252", "replace"),
        "letters": "".join(chance.sample(text, len(text))),
    }


def test_english_ranks_text_below_shuffled_words_below_rubbish(english):
    model, chapters = english
    for text in chapters:
        good = model.measure(text).perplexity
        bad = {name: model.measure(worse).perplexity for name, worse in spoilt(text).items()}
        assert good * 1.5 < bad["shuffled"] < min(bad["letters"], bad["keyboard"])
        assert bad["keyboard"] < bad["base64"]
    assert np.median([model.measure(text).perplexity for text in chapters]) < 150


def test_chinese_ranks_text_below_shuffled_characters_below_mojibake(chinese):
    model, sentences = chinese
    for text in sentences:
        good = model.measure(text).perplexity
        bad = {name: model.measure(worse).perplexity for name, worse in spoilt(text).items()}
        assert good < 10
        assert 10 * good < bad["shuffled"] < bad["keyboard"]
        assert bad["shuffled"] < bad["mojibake"]
        assert bad["shuffled"] < bad["base64"]


def test_the_other_language_is_unlikely(english, chinese):
    assert english[0].measure(chinese[1][0]).perplexity > 1e6
    assert chinese[0].measure(english[1][0]).perplexity > 1e6


@pytest.mark.parametrize("text", ["", " \n\t ", "\u200b\ufeff"])
def test_a_text_without_units_costs_nothing(english, text):
    measured = english[0].measure(text)
    assert (measured.nats, measured.num_units, measured.perplexity) == (0.0, 0, 1.0)


@pytest.mark.parametrize(
    "text",
    [
        "\ud800\udfff" * 50,
        "\x00\x01\xff" * 99,
        "😀🏳️‍🌈👩‍👩‍👧",
        "مرحبا بالعالم",
        "𝒜𝓑" * 30,
        "a" * 10_000,
        "\U0010ffff",
    ],
)
def test_strange_text_has_a_finite_perplexity(english, text):
    measured = english[0].measure(text)
    assert measured.num_units > 0
    assert 100 < measured.perplexity < math.inf


def test_only_the_first_characters_of_the_reference_are_read():
    def texts():
        yield "one two one two"
        yield "three three"
        raise AssertionError("read on")

    assert NgramModel.fit(texts(), 2, 20).measure("one three").num_unknown == 1
    assert NgramModel.fit(texts(), 2, 26).measure("one three").num_unknown == 0


@pytest.mark.parametrize("texts", [[], [""], [" ", "\n"]])
def test_a_reference_without_words_teaches_nothing(texts):
    with pytest.raises(ValueError, match="no words"):
        NgramModel.fit(texts, 3, 100)


def test_learning_is_deterministic_and_outlives_a_file_without_pickles(chinese):
    sentences = CHINESE[:300]
    files = []
    for _ in range(2):
        file = io.BytesIO()
        np.savez(file, **NgramModel.fit(sentences, 3, 10**6).arrays())
        files.append(file)
    assert files[0].getvalue() == files[1].getvalue()
    files[0].seek(0)
    with np.load(files[0], allow_pickle=False) as arrays:
        loaded = NgramModel.from_arrays(arrays)
    assert loaded.measure(CHINESE[-1]) == NgramModel.fit(sentences, 3, 10**6).measure(CHINESE[-1])


def test_a_long_text_costs_what_its_pieces_cost(english):
    model, chapters = english
    piece = (" ".join(chapters) * 20)[:CHUNK]
    assert model.measure(piece * 3).nats == pytest.approx(3 * model.measure(piece).nats)


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["x", "文"])
def test_fifty_megabytes_take_seconds(english, unit):
    text = unit * (50_000_000 // len(unit.encode()))
    started = time.process_time()
    english[0].measure(text)
    assert time.process_time() - started < 120
