"""Near dedup: the rules one by one against plain definitions, then whole on real and on made-up text."""

import random
import re
import sysconfig
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heliostat.data.dedup_config import NearDedupStep
from heliostat.data.documents import Document
from heliostat.data.minhash import NO_KEY
from heliostat.data.near_dedup import (
    SIMILARITY,
    alike,
    candidate_pairs,
    clusters,
    compare_texts,
    decide,
    near_keys,
    prefilter,
)

pytestmark = pytest.mark.heavy

DEFAULT = NearDedupStep()
FIVE_EVEN = NearDedupStep(min_similarity=0.5, min_containment=0.5, same_numbers=False)


def test_no_pairs():
    none = np.empty((0, 2), np.int64)
    assert compare_texts([], none, DEFAULT).shape == (0,)
    assert clusters(none, 3).tolist() == [0, 1, 2]


def compare(first: str, second: str, config: NearDedupStep = DEFAULT) -> tuple[float, float, bool]:
    return compare_texts([first, second], np.array([[0, 1]]), config)[0].item()[:3]


def test_similarity_is_of_different_shingles():
    assert compare("a b c d e f g", "a b c d e f g") == (1, 1, True)
    assert compare("a b c d e f", "A, b. c d e x") == (1 / 3, 1 / 2, True)
    assert compare("a b c d e f g h", "a b c d e") == (1 / 4, 1, True)
    assert compare("一二三四五六", "一二三四五，七") == (1 / 3, 1 / 2, True)
    assert compare("a a a a a a a a", "a a a a a") == (1, 1, True)


@pytest.mark.parametrize("empty", ["", "a b c d", "…!"])
def test_what_has_no_shingle_is_like_nothing(empty):
    assert compare(empty, empty) == (0, 0, True)
    assert compare("a b c d e", empty) == (0, 0, True)


FORM = (
    "On {} the sum of {} euros was paid into the account of the society by the members of its board "
    "and it was duly noted"
)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (FORM.format("2024-03-01", "5.10"), FORM.format("2024-01-03", "1.50"), False),
        (FORM.format("Monday", "20"), FORM.format("Monday", "30"), False),
        (FORM.format("Monday", "twenty"), FORM.format("Monday", "30"), True),
        (FORM.format("Monday", "20"), FORM.format("Monday", "20"), True),
        (FORM.format("Monday", "20"), FORM.format("Friday", "20"), True),
        (FORM.format("goal 2", "goal 1"), FORM.format("goal 1", "goal 2"), False),
        (FORM.format("day 3", "3"), FORM.format("day 3", "30"), False),
        (FORM.format("3 retries of 3", "80"), FORM.format("3 retries of 30", "80"), False),
        (FORM.format("day 3 of 3", "3"), FORM.format("day 3 of 3", "3 good"), True),
        ("价格是２０元" + "我们的产品很好" * 5, "价格是３０元" + "我们的产品很好" * 5, False),
        ("价格是20元" + "我们的产品很好" * 5, "价格是30元" + "我们的产品很好" * 5, False),
    ],
)
def test_a_form_filled_in_with_other_numbers_is_another_document(first, second, same):
    assert compare(first, second)[2] is same
    assert compare(second, first)[2] is same


def test_a_few_other_numbers_in_a_much_edited_text_do_not_make_it_a_form():
    random_ = random.Random(2)
    words = [f"word{letter * 3}" for letter in "abcdefghij"]
    text = [random_.choice(words) for _ in range(900)]
    edited = [random_.choice("xyz") if at % 30 == 7 else word for at, word in enumerate(text)]
    text[200], edited[700] = "17", "18"
    assert compare(" ".join(text), " ".join(edited))[2] is True


def plain_compare(first: str, second: str) -> tuple[float, float]:
    sets = []
    for text in (first, second):
        words = re.findall(r"[\u4e00-\u9fff]|[a-z0-9]+", text.lower())
        sets.append({tuple(words[at : at + 5]) for at in range(len(words) - 4)})
    shared = len(sets[0] & sets[1])
    return shared / max(len(sets[0] | sets[1]), 1), shared / max(len(sets[1]), 1)


@pytest.mark.parametrize("alphabet", [["cat ", "Dog, ", "7 "], list("猫狗。"), ["cat ", "猫", "dog\n"]])
def test_similarity_is_that_of_the_plain_definition(alphabet, monkeypatch):
    random_ = random.Random(1)
    texts = ["".join(random_.choices(alphabet, k=random_.randrange(40))) for _ in range(30)]
    pairs = np.array(list(combinations(range(30), 2)))
    expected = [plain_compare(texts[first], texts[second]) for first, second in pairs.tolist()]
    for chunk in (1 << 15, 7):
        monkeypatch.setattr("heliostat.data.near_dedup._CHUNK_PAIRS", chunk)
        found = compare_texts(texts, pairs, DEFAULT)
        assert [(jaccard, containment) for jaccard, containment, *_ in found.tolist()] == expected
    assert len({jaccard for jaccard, _ in expected}) > 20


def compared(*jaccards: float, containment: float = 1.0, same: bool = True) -> np.ndarray:
    return np.array([(jaccard, containment, same, True) for jaccard in jaccards], SIMILARITY)


def gone(
    pairs: list[list[int]], similarity: np.ndarray, lengths: list[int], config=FIVE_EVEN
) -> dict[int, int]:
    """What goes with what it goes for; documents are named by their ranks."""
    named = np.array(pairs)
    chosen = decide(named, similarity, named, np.array(lengths)[named], config)
    return {later: earlier for earlier, later in named[chosen].tolist()}


def test_nothing_goes_for_being_like_something_that_goes():
    assert gone([[0, 1], [1, 2]], compared(0.9, 0.9), [9, 9, 9]) == {1: 0}
    assert gone([[0, 1], [1, 2], [2, 3]], compared(0.9, 0.9, 0.9), [9, 9, 9, 9]) == {1: 0, 3: 2}


def test_the_most_similar_that_stays_is_named():
    pairs = [[0, 3], [1, 3], [2, 3], [0, 2]]
    assert gone(pairs, compared(0.8, 0.9, 0.95, 0.99), [9, 9, 9, 9]) == {2: 0, 3: 1}
    assert gone(pairs[:2], compared(0.9, 0.9), [9, 9, 9, 9]) == {3: 0}


def test_nothing_goes_for_something_shorter():
    assert gone([[0, 1]], compared(0.9), [9, 10]) == {}
    assert gone([[0, 1]], compared(0.9), [10, 10]) == {1: 0}


def test_all_limits_must_be_met():
    limits = NearDedupStep(min_similarity=0.7, min_containment=0.8)
    assert gone([[0, 1]], compared(0.7, containment=0.8), [9, 9], limits) == {1: 0}
    assert gone([[0, 1]], compared(0.69), [9, 9], limits) == {}
    assert gone([[0, 1]], compared(0.7, containment=0.79), [9, 9], limits) == {}
    assert gone([[0, 1]], compared(0.7, same=False), [9, 9], limits) == {}
    assert gone(
        [[0, 1]], compared(0.7, same=False), [9, 9], limits.model_copy(update={"same_numbers": False})
    ) == {1: 0}


def test_forms_filled_in_differently_stay_but_are_alike():
    found = np.concatenate([compared(0.7, same=False), compared(0.69), compared(0.9, containment=0.7)])
    assert alike(found, DEFAULT).tolist() == [True, False, False]


EDGES = st.dictionaries(
    st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda pair: pair[0] < pair[1]),
    st.sampled_from([0.3, 0.5, 0.8, 0.9]),
    min_size=1,
)


@given(EDGES, st.lists(st.integers(1, 3), min_size=12, max_size=12), st.randoms())
def test_decisions_are_those_of_the_plain_definition(edges, lengths, random_):
    expected: dict[int, int] = {}
    for later in range(12):
        good = [
            (-similarity, earlier)
            for (earlier, other), similarity in edges.items()
            if other == later
            and similarity >= 0.5
            and earlier not in expected
            and lengths[earlier] >= lengths[later]
        ]
        if good:
            expected[later] = min(good)[1]
    pairs = list(edges)
    random_.shuffle(pairs)
    assert (
        gone([list(pair) for pair in pairs], compared(*(edges[pair] for pair in pairs)), lengths) == expected
    )


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=25))
def test_clusters_are_what_pairs_connect(pairs):
    roots = list(range(20))
    for first, second in pairs * 20:
        roots[first] = roots[second] = min(roots[first], roots[second])
    assert clusters(np.array(pairs, np.int64).reshape(-1, 2), 20).tolist() == roots


def test_a_long_chain_is_one_cluster():
    order = np.random.default_rng(0).permutation(200_000)
    chain = np.stack([order[1:], order[:-1]], axis=1)
    assert (clusters(chain, 200_000) == 0).all()


def deletions(texts: list[str], config: NearDedupStep = DEFAULT, batch: int = 256) -> dict[int, int]:
    """All of near dedup: the texts that go, by position, with what they go for."""
    documents = [Document(str(at), "file", at, "d", text) for at, text in enumerate(texts)]
    parts = [near_keys(documents[start : start + batch], config) for start in range(0, len(texts), batch)]
    bands, signatures = (np.concatenate([part[name] for part in parts]) for name in ("bands", "signatures"))
    lengths = np.array([len(text) for text in texts])
    ranks = np.empty(len(texts), np.int64)
    ranks[sorted(range(len(texts)), key=lambda at: (-lengths[at], texts[at], at))] = np.arange(len(texts))
    candidates = candidate_pairs(bands, ranks, config.max_bucket)
    pairs = candidates.pairs[prefilter(candidates.pairs, lambda at: signatures[at], config.min_similarity)]
    chosen = decide(pairs, compare_texts(texts, pairs, config), ranks[pairs], lengths[pairs], config)
    return {later: earlier for earlier, later in pairs[chosen].tolist()}


@pytest.fixture(scope="module")
def docstrings() -> list[str]:
    """Two thousand different docstrings of 60 words and more, from the standard library and numpy."""
    found: dict[str, None] = {}
    folders = [Path(sysconfig.get_paths()["stdlib"]), Path(np.__file__).parent]
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        if "test" not in path.name and "site-packages" not in path.parts[-3:]:
            source = path.read_text(encoding="utf-8", errors="replace")
            found |= dict.fromkeys(
                text for text in re.findall(r'"""(.*?)"""', source, re.DOTALL) if len(text.split()) > 60
            )
        if len(found) > 2000:
            break
    return list(found)[:2000]


def edited(text: str, share: float, vocabulary: list[str], random_: random.Random) -> str:
    """The text with single words replaced, left out or added, so that about `share` of its shingles stays."""
    parts = re.split(r"(\s+)", text)
    words = [at for at, part in enumerate(parts) if part.strip()]
    changes = max(1, round(len(words) * (1 - share) / (5 * (1 + share))))
    for at in random_.sample(words, changes):
        other = random_.choice(vocabulary)
        parts[at] = random_.choice([other, "", f"{parts[at]} {other}"])
    return "".join(parts)


def test_edited_copies_of_real_text_are_found(docstrings):
    random_ = random.Random(5)
    vocabulary = " ".join(docstrings[:200]).split()
    originals = set(deletions(docstrings))
    base = [text for at, text in enumerate(docstrings) if at not in originals]
    copies = [edited(text, random_.uniform(0.6, 0.97), vocabulary, random_) for text in base]
    found = deletions(base + copies)
    recalls: dict[str, list[bool]] = {"below 0.5": [], "0.7": [], "0.8": [], "0.9": []}
    for at, (text, copy) in enumerate(zip(base, copies, strict=True)):
        similarity, _ = plain_compare(text, copy)
        name = "below 0.5" if similarity < 0.5 else f"{int(similarity * 10) / 10}"
        if name in recalls:
            recalls[name].append(at in found or at + len(base) in found)
    assert all(len(each) > 200 for name, each in recalls.items() if name != "below 0.5")
    assert not any(recalls["below 0.5"])
    assert np.mean(recalls["0.7"]) > 0.65
    assert np.mean(recalls["0.8"]) > 0.94
    assert np.mean(recalls["0.9"]) > 0.98
    for later, earlier in found.items():
        assert (
            abs(later - earlier) == len(base)
            or plain_compare((base + copies)[earlier], (base + copies)[later])[0] > 0.6
        )


def test_what_stays_depends_neither_on_order_nor_on_batches_nor_on_doubles(docstrings):
    random_ = random.Random(6)
    texts = docstrings[:250]
    texts += [edited(text, 0.9, ["other", "words", "here"], random_) for text in texts for _ in range(2)]
    texts += [f"{FORM} {FORM}".format(*random_.choices(["some", "any", "the", "my"], k=4)) for _ in range(40)]

    def stays(texts: list[str], batch: int = 256) -> set[str]:
        went = deletions(texts, batch=batch)
        return {text for at, text in enumerate(texts) if at not in went}

    expected = stays(texts)
    assert 200 < len(expected) < 400
    assert stays(texts, batch=7) == expected
    shuffled = random_.sample(texts, len(texts))
    assert stays(shuffled) == expected
    assert stays(shuffled + texts, batch=100) == expected


class Filler:
    """Numbers and names to fill forms in with."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)
        self._names = [
            f"{first}{second}" for first in ("ba", "ko", "ti", "re") for second in ("lan", "mor", "sen")
        ]

    def number(self, least: int, most: int) -> int:
        return self._random.randint(least, most)

    def name(self) -> str:
        return self._random.choice(self._names)


def api_entry(fill: Filler) -> str:
    return (
        f"{fill.name()}_{fill.name()}(key, limit={fill.number(1, 999)})\n\nCalls the {fill.name()} service, "
        f"added in {fill.number(1, 9)}.{fill.number(0, 30)}. Returns up to {fill.number(2, 500)} entries. "
        f"Raises {fill.name().title()}Error with code {fill.number(100, 999)} when it is not there. "
    )


def invoice(fill: Filler) -> str:
    lines = [
        f"{fill.number(1, 99)} {fill.name()} at {fill.number(1, 99)}.{fill.number(10, 99)}" for _ in range(4)
    ]
    heading = f"Invoice {fill.number(10**5, 10**6)} for {fill.name()} Ltd of 2024-0{fill.number(1, 9)}-15"
    return "\n".join([heading, *lines, ""])


def weather(fill: Filler) -> str:
    return (
        f"Weather in {fill.name().title()}: {fill.number(-20, 39)} degrees, wind {fill.number(0, 90)} km/h, "
        f"rain {fill.number(0, 100)} percent, pressure {fill.number(950, 1050)} hPa, sunrise at "
        f"0{fill.number(4, 8)}:{fill.number(10, 59)}. "
    )


def chinese_notice(fill: Filler) -> str:
    return (
        f"通知：订单{fill.number(10**7, 10**8)}已于{fill.number(1, 12)}月{fill.number(1, 28)}日发出，"
        f"共{fill.number(2, 99)}件，金额{fill.number(100, 9999)}元。"
    )


@pytest.mark.parametrize("form", [api_entry, invoice, weather, chinese_notice])
@pytest.mark.parametrize("boilerplate", [0, 60, 250])
def test_forms_filled_in_differently_survive(form, boilerplate, docstrings):
    fill = Filler(boilerplate)
    rest = " ".join(" ".join(docstrings[:20]).split()[:boilerplate])
    if form is chinese_notice:
        rest = "感谢您的惠顾，如有任何问题请随时与我们的客服中心联系，我们将竭诚为您服务。" * (
            boilerplate // 30
        )
    assert deletions([form(fill) + rest for _ in range(150)]) == {}


def test_near_duplicates_in_chinese_are_found():
    text = "".join(
        random.Random(3).choices(
            "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过",
            k=300,
        )
    )
    copy = text.replace(text[100:102], "变化").replace(text[200], "换", 1)
    other = "".join(random.Random(4).choices(text, k=300))
    assert deletions([text, other, copy[:-1], text + "。"]) == {2: 3, 0: 3}


def test_short_documents_are_left_alone():
    words = " ".join(f"w{letter}" for letter in "abcdefghijklmnopqrstuvwxyzabcde")
    assert len(words.split()) == 31
    texts = [words, words + " ", words.upper(), "", " ", ""]
    assert deletions(texts) == {}
    assert deletions(texts, NearDedupStep(min_words=31)).keys() == {0, 2}
    keys = near_keys([Document("u", "f", 1, "d", words)], DEFAULT)
    assert keys["bands"].tolist() == [[NO_KEY] * 14]
    assert keys["signatures"].shape == (1, 112)


def test_conversations_are_compared_by_all_they_say():
    answer = " ".join(f"w{letter}{other}" for letter in "abcdefgh" for other in "abcdefgh")
    messages = ({"role": "user", "content": "why?"}, {"role": "assistant", "content": answer})
    keys = near_keys(
        [Document("u", "f", 1, "d", messages=messages), Document("v", "f", 2, "d", f"why?\n\n{answer}")],
        DEFAULT,
    )
    assert np.array_equal(keys["bands"][0], keys["bands"][1])


@pytest.mark.parametrize(
    ("values", "way_out"),
    [
        ({"min_similarity": 0.2}, "lower rows_per_band or raise num_bands"),
        ({"rows_per_band": 64, "num_bands": 1}, "lower rows_per_band or raise num_bands"),
        ({"min_words": 4}, "set min_words to 5 or more"),
        ({"min_similarity": 1.2}, "less than or equal to 1"),
    ],
)
def test_impossible_configs_name_the_way_out(values, way_out):
    with pytest.raises(ValidationError, match=way_out):
        NearDedupStep(**values)


@pytest.mark.slow
def test_two_documents_of_50_mb_are_compared_in_linear_time():
    text = " ".join(random.Random(0).choices([f"w{number}" for number in range(9000)], k=8_700_000))
    started = time.process_time()
    jaccard, containment, *_ = compare(text, text[:-1000])
    assert 0.999 < jaccard < containment <= 1
    assert time.process_time() - started < 60  # 3 s alone on the machine
