"""Normalising: exact results, in English, Chinese and the scripts it must leave alone."""

import pytest

from heliostat.text.normalise import comparison_key, normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text", "plain text"),
        ("line\r\nline\rline\u2028line", "line\nline\nline\nline"),
        ("trailing  \t\nspaces   ", "trailing\nspaces"),
        ("\n\n one\n\n\n\n\ntwo\n\n", " one\n\ntwo"),
        ("a\x00b\x07c\x1bd\x7fe", "abcde"),
        ("zero\u200bwidth\ufeff and soft\u00adhyphen", "zerowidth and softhyphen"),
        ("no\u00a0break and\u2003wide", "no break and wide"),
        ("cafe\u0301", "caf\u00e9"),
        ("中文\u3000全角空格\r\n第二行\u200b", "中文 全角空格\n第二行"),
        ("全角ＡＢＣ，不变", "全角ＡＢＣ，不变"),
        ("می\u200cخواهم 👩\u200d💻", "می\u200cخواهم 👩\u200d💻"),
        ("def f():\n    return  1", "def f():\n    return  1"),
        ("", ""),
        (" \n\t\u3000\n", ""),
    ],
)
def test_text_is_repaired_and_nothing_else(text, expected):
    assert normalise(text) == expected


def test_nfkc_folds_full_width_forms():
    assert normalise("全角ＡＢＣ１２３", "NFKC") == "全角ABC123"


def test_normalising_twice_changes_nothing():
    text = "\u3000 a\u00a0\r\n\r\n\r\n\tb\u0301\x00 "
    assert normalise(normalise(text)) == normalise(text)


def test_the_comparison_key_ignores_white_space_and_unicode_form():
    assert comparison_key(["a  b\r\nc"]) == comparison_key([" a b c\n"])
    assert comparison_key(["caf\u00e9"]) == comparison_key(["cafe\u0301"])
    assert comparison_key(["你好 世界"]) == comparison_key(["你好\u3000世界"])
    assert comparison_key(["Case"]) != comparison_key(["case"])
    assert comparison_key(["ab", "c"]) != comparison_key(["a", "bc"])
    assert len(comparison_key([""])) == 16
