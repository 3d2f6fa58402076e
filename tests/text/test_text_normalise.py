"""Normalising: exact results, in English, Chinese and the scripts it must leave alone."""

import re
import time
import unicodedata

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from heliostat.text.normalise import (
    collapse_spaces,
    comparison_key,
    normalise,
    remove_punctuation,
    repair_mojibake,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text", "plain text"),
        ("line\r\nline\rline\u2028line", "line\nline\nline\nline"),
        ("line\r\nline\rline\x0bline", "line\nline\nline\nline"),
        ("trailing  \t\nspaces   ", "trailing\nspaces"),
        ("\n\n one\n\n\n\n\ntwo\n\n", " one\n\ntwo"),
        ("one\n \t\n \ntwo", "one\n\ntwo"),
        ("a\x00b\x07c\x1bd\x7fe", "abcde"),
        ("a\x00b\x07c\x1bd\x7fe\x85é\x9f", "abcde\né"),
        ("zero\u200bwidth\ufeff and soft\u00adhyphen", "zerowidth and softhyphen"),
        ("no\u00a0break and\u2003wide", "no break and wide"),
        ("cafe\u0301", "caf\u00e9"),
        ("cafe\u200b\u0301", "caf\u00e9"),
        ("中文\u3000全角空格\r\n第二行\u200b", "中文 全角空格\n第二行"),
        ("全角ＡＢＣ，不变", "全角ＡＢＣ，不变"),
        ("می\u200cخواهم 👩\u200d💻", "می\u200cخواهم 👩\u200d💻"),
        ("def f():\n    return  1", "def f():\n    return  1"),
        ("half \ud800 a pair", "half \ud800 a pair"),
        ("", ""),
        (" \n\t\u3000\n", ""),
        ("\x00\x01\x02", ""),
    ],
)
def test_text_is_repaired_and_nothing_else(text, expected):
    assert normalise(text) == expected


def test_nfkc_folds_full_width_forms():
    assert normalise("全角ＡＢＣ１２３", "NFKC") == "全角ABC123"


ANY_TEXT = st.text(
    alphabet=st.one_of(
        st.sampled_from(
            " \t\n\r\x0b\x0c\x00\x1c\x1f\x7f\x85\u00a0\u00ad\u200b\u2028\u3000\ufeffaAé\u0301\u0323İς中，.…"
        ),
        st.characters(codec=None, exclude_categories=()),
    ),
    max_size=40,
)
ASCII_TEXT = st.text(alphabet=st.sampled_from(" \t\n\r\x0b\x0c\x00\x1c\x1f\x7fab."), max_size=40)


def plainly_normalised(text: str, form: str) -> str:
    """The same, said plainly: one substitution a rule, over any text."""
    text = re.sub("\r\n|[\r\x0b\x0c\x85\u2028\u2029]", "\n", text)
    text = re.sub("[\x00-\x08\x0e-\x1f\x7f-\x9f\u200b\u2060\ufeff\u00ad]", "", text)
    text = re.sub("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]", " ", text)
    text = unicodedata.normalize(form, text)
    text = re.sub("[ \t]+(?=\n|$)", "", text)
    text = re.sub("\n{3,}", "\n\n", text)
    return text.strip("\n").rstrip()


def plain_key(texts: list[str]) -> bytes:
    parts = [re.sub(r"\s+", " ", plainly_normalised(text, "NFC")).strip() for text in texts]
    return xxhash.xxh3_128_digest(b"".join(part.encode("utf-8", "surrogatepass") + b"\xff" for part in parts))


@given(st.one_of(ANY_TEXT, ASCII_TEXT), st.sampled_from(["NFC", "NFKC"]))
@settings(max_examples=400, deadline=None)
def test_the_result_is_that_of_the_plain_definition_and_normalising_again_changes_nothing(text, form):
    result = normalise(text, form)
    assert result == plainly_normalised(text, form)
    assert normalise(result, form) == result


@given(st.lists(st.one_of(ANY_TEXT, ASCII_TEXT), max_size=3))
@settings(max_examples=400, deadline=None)
def test_the_comparison_key_is_that_of_the_plain_definition(texts):
    assert comparison_key(texts) == plain_key(texts)


def test_the_comparison_key_ignores_white_space_and_unicode_form():
    assert comparison_key(["a  b\r\nc"]) == comparison_key([" a b c\n"])
    assert comparison_key(["a b"]) == comparison_key(["a\u00a0b"])
    assert comparison_key(["caf\u00e9"]) == comparison_key(["cafe\u0301"])
    assert comparison_key(["你好 世界"]) == comparison_key(["你好\u3000世界"])
    assert comparison_key(["Case"]) != comparison_key(["case"])
    assert comparison_key(["ab"]) != comparison_key(["a b"])
    assert comparison_key(["ab", "c"]) != comparison_key(["a", "bc"])
    assert len(comparison_key([""])) == 16


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("don't stop-it, now!", "dont stopit now"),
        ("a+b = $5 <i> ^x| ~`@#", "ab  5 i x "),
        ("你好，世界！《书》“引号”……—、。", "你好世界书引号"),
        ("＄５＝５～ ｜全角｜", "５５ 全角"),
        ("¿Qué? «sí» ‹no› …", "Qué sí no "),
        ("naïve café 😀 שלום، مرحبا؟", "naïve café 😀 שלום مرحبا"),
        ("", ""),
    ],
)
def test_punctuation_goes_and_leaves_nothing_behind(text, expected):
    assert remove_punctuation(text) == expected


def test_all_of_unicodes_punctuation_goes_and_eighteen_signs():
    everything = "".join(map(chr, range(0x20000)))
    gone = set(everything) - set(remove_punctuation(everything))
    punctuation = {character for character in everything if unicodedata.category(character)[0] == "P"}
    assert punctuation < gone
    assert sorted(gone - punctuation) == sorted("$+<=>^`|~＄＋＜＝＞＾｀｜～")
    assert not any(unicodedata.category(chr(code))[0] == "P" for code in range(0x20000, 0x110000))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a  b\tc", "a b c"),
        ("  indented\n\tline", "indented\nline"),
        ("one\n\ntwo", "one\n\ntwo"),
        ("你好  世界", "你好 世界"),
        ("same already", "same already"),
    ],
)
def test_spaces_are_collapsed_within_lines(text, expected):
    assert collapse_spaces(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cafÃ©", "café"),
        ("Itâ€™s â€œquotedâ€\x9d", "It’s “quoted”"),
        ("voilÃ  le travail", "voilà le travail"),
        ("äººå·¥æ™ºèƒ½æŠ€æœ¯", "人工智能技术"),
        ("ðŸ˜€ nice", "😀 nice"),
        ("РќРµ Р·РЅР°СЋ", "Не знаю"),
        ("first: 好的\nsecond: cafÃ©", "first: 好的\nsecond: café"),
    ],
)
def test_utf8_read_as_another_encoding_is_read_again(text, expected):
    assert repair_mojibake(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "plain &amp; ASCII ‘quotes’ ﬁligree ＡＢＣ\x1b[31m",  # what else ftfy could change
        "L'été dernier, déjà « très chaud »… où ça ? À Angers.",
        "Größe und Übermut – „Schön“ für 5 €…",
        "Всё это очень интересно… но ещё не всё. «Ещё раз»",
        "人工智能技术发展迅速，很多公司都在使用。",
        "Ελληνικά, Łódź, Türkçe, العربية, 😀",
        "",
    ],
)
def test_what_is_read_rightly_stays(text):
    assert repair_mojibake(text) == text


@pytest.mark.parametrize(
    "encoding", ["latin-1", "cp1252", "cp1251", "cp1250", "cp1254", "cp437", "mac_roman"]
)
@pytest.mark.parametrize(
    "text", ["L'été à la plage", "Größe und Übermut", "Ещё раз всё это", "人工智能技术", "😀 ok"]
)
def test_the_look_before_ftfy_misses_nothing_that_ftfy_repairs(text, encoding):
    import ftfy

    garbled = text.encode().decode(encoding, "replace")
    assert repair_mojibake(garbled) == ftfy.fix_encoding(garbled)


@pytest.mark.parametrize(
    "unit",
    [
        " ",
        "\n",
        " \n",
        "\t\n",
        "\r",
        "\r\n",
        "a ",
        "\u3000",
        "\u200b",
        "\u0301",
        "\x00",
        "a  b",
        "é \n",
        "Ã©\n",
    ],
)
def test_hostile_text_takes_linear_time(unit):
    text = "a" + unit * (1_000_000 // len(unit)) + "b"
    started = time.process_time()
    normalise(text)
    comparison_key([text])
    collapse_spaces(remove_punctuation(text))
    repair_mojibake(text[:20_000])
    assert time.process_time() - started < 5


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["The quick  brown fox.\n    It jumps. ", "价格3.14元，\u3000很便宜。\r\n"])
def test_a_document_of_50_megabytes_is_normalised_in_seconds(unit):
    text = unit * (50_000_000 // len(unit.encode()))
    started = time.process_time()
    assert normalise(normalise(text)) == normalise(text)
    assert comparison_key([text]) == comparison_key([normalise(text)])
    assert time.process_time() - started < 60
