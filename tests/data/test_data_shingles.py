"""Words and shingles as hashes: what counts as a word, and that nothing depends on the batch."""

import random
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.data.shingles import Words, nominating_words, shingles, verifying_words

JOINS = "+-./:,"


def hashes_of(words: list[str], split) -> list[int]:
    """The hashes of words that stand alone, each in a text of its own."""
    found = split(words)
    assert found.counts.tolist() == [1] * len(words)
    return found.hashes.tolist()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("snake_case don't C++", ["snake", "case", "don", "t", "c"]),
        ("  two\n\n\tlines\r\n", ["two", "lines"]),
        ("“quoted” — text…", ["quoted", "text"]),
        ("ÉTÉ Straße ПРИВЕТ", ["été", "straße", "привет"]),
        ("ελλάδα\u00a0λόγος", ["ελλάδα", "λόγος"]),
        ("你好，世界。", ["你", "好", "世", "界"]),
        ("用Python写代码3次", ["用", "python", "写", "代", "码", "3", "次"]),
        ("カタカナとｶﾅ「々」", [*"カタカナと", "ｶ", "ﾅ", "々"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("สวัสดี", list("สวัสดี")),
        ("𠀀𠀁", ["𠀀", "𠀁"]),
        ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("good 👍 👩\u200d👩 day", ["good", "\u200d", "day"]),
        ("a\x00b\x07c", ["a", "b", "c"]),
        ("ab\ud800cd", ["ab\ud800cd"]),
        ("x" * 130, ["x" * 64, "x" * 64, "xx"]),
        ("a longerwordhere thanelevenletters", ["a", "longerwordhere", "thanelevenletters"]),
    ],
)
@pytest.mark.parametrize("split", [nominating_words, verifying_words])
def test_words(split, text, words):
    found = split([text])
    assert found.hashes.tolist() == hashes_of(words, split)
    assert found.counts.tolist() == [len(words)]


@pytest.mark.parametrize("text", ["", " \n\t", "!?…。，", "\x00\x01", "🎉🎉", "\u3000\u2028"])
@pytest.mark.parametrize("split", [nominating_words, verifying_words])
def test_nothing_is_no_word(split, text):
    assert split([text]).counts.tolist() == [0]
    assert len(split([text]).hashes) == 0


@pytest.mark.parametrize(
    ("text", "words", "numbers"),
    [
        ("pi is 3.14.", ["pi", "is", "3.14"], [2]),
        ("on 2024-05-01, at 10:30", ["on", "2024-05-01", "at", "10:30"], [1, 3]),
        ("1,000 or 1/2 -5 +5 3- .5", ["1,000", "or", "1/2", "5", "5", "3", "5"], [0, 2, 3, 4, 5, 6]),
        ("a-1 1-a 1..2 a.b", ["a", "1", "1", "a", "1", "2", "a", "b"], [1, 2, 4, 5]),
        ("python3 x86_64 abcdefghij7", ["python3", "x86", "64", "abcdefghij7"], [0, 1, 2, 3]),
        ("2024年３月", ["2024", "年", "３", "月"], [0, 2]),
        ("/ : ; 9", ["9"], [0]),
        ("٣٤ and ४", ["٣٤", "and", "४"], [0, 2]),
    ],
)
def test_verifying_words_keep_numbers_whole(text, words, numbers):
    found = verifying_words([text])
    assert found.hashes.tolist() == hashes_of(words, verifying_words)
    assert np.flatnonzero(found.are_numbers).tolist() == numbers


def test_nominating_words_do_not_see_the_values_of_digits():
    first, second = (
        nominating_words(["room 12 on 3.5", "ROOM 98 on 7.1"]),
        nominating_words(["room 00 on 0 0"]),
    )
    assert first.hashes[:5].tolist() == first.hashes[5:].tolist() == second.hashes.tolist()
    assert len(first.are_numbers) == 0


def test_equal_beginnings_do_not_make_words_equal():
    words = [
        "a",
        "aa",
        "a" * 8,
        "a" * 9,
        "a" * 16,
        "a" * 17,
        "a" * 63,
        "a" * 64,
        "b" + "a" * 63,
        "a" * 63 + "b",
    ]
    assert len(set(verifying_words(words).hashes.tolist())) == len(words)


def plain_words(text: str, digits_stay: bool) -> list[str]:
    """The definition, a character at a time."""
    text = text.lower() if not text.isascii() else text
    words, word = [], ""
    for at, character in enumerate(text):
        between = text[at - 1 : at] + text[at + 1 : at + 2]
        joins = character in JOINS and len(between) == 2 and between.isascii() and between.isdigit()
        category = unicodedata.category(character)
        separates = category[0] in "PSZ" or category == "Cc" or "\U0001f000" <= character <= "\U0001ffff"
        alone = "\u4e00" <= character <= "\u9fff" or "\u0e00" <= character <= "\u0eff"
        if alone or (separates and not (digits_stay and joins)):
            words += [word] if word else []
            words += [character] if alone and not separates else []
            word = ""
        else:
            folded = "0" if character.isascii() and character.isdigit() and not digits_stay else character
            word += folded.lower() if character.isascii() else folded
    return words + ([word] if word else [])


TEXTS = st.text(alphabet=list("aAbz09 7.,:-/+_'\n\x00éÉя中文字。，ไท“—\u00a0\u200d😀\ud800"), max_size=60)


@given(st.lists(TEXTS, max_size=8), st.booleans())
def test_words_are_those_of_the_plain_definition(texts, digits_stay):
    expected = [plain_words(text, digits_stay) for text in texts]
    found = (verifying_words if digits_stay else nominating_words)(texts)
    assert found.counts.tolist() == [len(words) for words in expected]
    names = dict(zip(found.hashes.tolist(), (word for words in expected for word in words), strict=True))
    assert [names[each] for each in found.hashes.tolist()] == [word for words in expected for word in words]
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("split", [nominating_words, verifying_words])
def test_hashes_do_not_depend_on_the_batch(split, monkeypatch):
    random_ = random.Random(0)
    alphabet = "abc ABC 123.5 中文。 é\n"
    texts = ["".join(random_.choices(alphabet, k=random_.randrange(200))) for _ in range(300)]
    whole = split(texts)
    alone = [split([text]) for text in texts]
    monkeypatch.setattr("heliostat.data.shingles.BLOCK_BYTES", 50)
    small_blocks = split(texts)
    one_by_one = Words(
        np.concatenate([words.hashes for words in alone]),
        np.concatenate([words.counts for words in alone]),
        np.concatenate([words.are_numbers for words in alone]),
    )
    for other in (small_blocks, one_by_one):
        assert np.array_equal(whole.hashes, other.hashes)
        assert np.array_equal(whole.counts, other.counts)
        assert np.array_equal(whole.are_numbers, other.are_numbers)


def test_text_without_spaces_is_cut_before_ideographs_only(monkeypatch):
    text = "中文abcdefgh字" * 50 + "x" * 300
    whole = verifying_words([text])
    monkeypatch.setattr("heliostat.data.shingles.BLOCK_BYTES", 16)
    assert np.array_equal(whole.hashes, verifying_words([text]).hashes)


def test_shingles_do_not_cross_the_border_of_texts():
    texts = ["a b c d", "", "e", "f g h", "b c d"]
    found = shingles(nominating_words(texts), 3)
    assert found.counts.tolist() == [2, 0, 0, 1, 1]
    assert found.hashes[1] == found.hashes[3]
    assert len(set(found.hashes.tolist())) == 3


def test_shingles_depend_on_the_order_of_words():
    found = shingles(nominating_words(["a b c d e", "b a c d e", "A, b; c d e."]), 5)
    assert found.hashes[0] == found.hashes[2] != found.hashes[1]


@pytest.mark.parametrize("size", [1, 5, 13])
def test_too_few_words_have_no_shingle(size):
    found = shingles(nominating_words(["", "a " * (size - 1)]), size)
    assert found.counts.tolist() == [0, 0]
    assert len(found.hashes) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    ["some words here ", "x", "中文", "\n", "1."],
    ids=["prose", "one word", "chinese", "blank", "digits"],
)
def test_a_document_of_50_mb_takes_linear_time(unit):
    text = unit * (50_000_000 // len(unit.encode()))
    started = time.process_time()
    found = shingles(verifying_words([text]), 5)
    assert len(found.hashes) == found.counts[0]
    assert time.process_time() - started < 40  # 1 to 5 s alone on the machine
