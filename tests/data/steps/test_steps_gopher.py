"""Gopher's quality rules: each limit, its reason and its figure, in English and Chinese."""

import time

import pytest
from pydantic import ValidationError

from heliostat.data.documents import Document
from heliostat.data.steps.gopher import STOP_WORDS, GopherQualityStep, make_gopher_quality
from heliostat.data.steps.interface import Refusal
from heliostat.text.words import words

ENGLISH = "The committee will meet on Friday, and members are asked to bring that report with them. " * 4
CHINESE = "委员会星期五开会，请大家带上这份报告。我们在会上讨论的是明年的计划和预算。" * 3
THAI = "คณะกรรมการจะประชุมวันศุกร์และขอให้สมาชิกนำรายงานมาด้วย " * 3


def text(content: str, **metadata) -> Document:
    return Document("u", "file", 1, "d", content, metadata=metadata)


def judge(document: Document | str, **limits) -> Document | Refusal:
    document = text(document) if isinstance(document, str) else document
    return make_gopher_quality(GopherQualityStep(**limits))(document)


@pytest.mark.parametrize("content", [ENGLISH, CHINESE, ENGLISH + CHINESE, "“" + ENGLISH + "”"])
def test_prose_stays_as_it_is(content):
    document = text(content)
    assert judge(document) is document


@pytest.mark.parametrize(
    ("content", "limits", "refusal"),
    [
        ("Too short to be of the use that we want.", {}, Refusal("gopher_short_doc", 10)),
        ("太短的一句话。", {}, Refusal("gopher_short_doc", 6)),
        ("one two three", {"min_words": 3, "max_words": 3, "min_stop_words": None}, None),
        ("one two three", {"min_words": 4}, Refusal("gopher_short_doc", 3)),
        ("one two three", {"min_words": None, "max_words": 2}, Refusal("gopher_long_doc", 3)),
        ("今天天气好", {"min_words": None, "max_words": 4}, Refusal("gopher_long_doc", 5)),
        ("a b c of to be to " * 10, {}, Refusal("gopher_below_avg_threshold", 11 / 7)),
        ("incomprehensibilities of the " * 20, {}, None),
        (
            "incomprehensibilities counterrevolutionaries the of " * 20,
            {},
            Refusal("gopher_above_avg_threshold", 48 / 4),
        ),
        (ENGLISH + "#" * 7, {}, Refusal("gopher_too_many_hashes", 7 / 64)),
        (ENGLISH + "# " * 6, {}, None),
        (CHINESE + "#" * 12, {}, Refusal("gopher_too_many_hashes", 12 / 102)),
        (ENGLISH + "... " * 7, {}, Refusal("gopher_too_many_ellipsis", 7 / 64)),
        (CHINESE + "……。" * 10, {}, None),
        (CHINESE + "……。" * 11, {}, Refusal("gopher_too_many_ellipsis", 11 / 102)),
        ("\n".join(["- " + ENGLISH] * 10), {}, Refusal("gopher_too_many_bullets", 1.0)),
        ("\n\n".join(["• " + CHINESE] * 9 + [CHINESE]), {}, None),
        ("\n".join([ENGLISH + "..."] * 4 + [ENGLISH] * 6), {}, Refusal("gopher_too_many_end_ellipsis", 0.4)),
        ("\n".join([CHINESE + "……"] * 3 + [CHINESE] * 7), {}, None),
        (ENGLISH + "1234 " * 16, {}, None),
        (ENGLISH + "1234 " * 17, {}, Refusal("gopher_below_alpha_threshold", 1 - 17 / 81)),
        (CHINESE + "١٢ " * 26, {}, Refusal("gopher_below_alpha_threshold", 1 - 26 / 128)),
        (CHINESE + "一二三四五" * 20, {}, None),
        ("Green ideas sleep furiously under purple skies. " * 10, {}, Refusal("gopher_enough_stop_words", 0)),
        ("The green ideas sleep, the purple skies weep. " * 10, {}, Refusal("gopher_enough_stop_words", 1)),
        ("THE green ideas sleep WITH purple skies today. " * 10, {}, None),
        ("床前明月光疑地上霜举头望明月低头思故乡" * 4, {}, Refusal("gopher_enough_stop_words", 0)),
    ],
)
def test_each_rule_names_its_reason_and_figure(content, limits, refusal):
    result = judge(content, **limits)
    if refusal is None:
        assert result == text(content)
    else:
        assert (result.reason, result.score) == (refusal.reason, pytest.approx(refusal.score))


@pytest.mark.parametrize(
    "limit",
    [
        "min_words",
        "max_words",
        "min_mean_word_length",
        "max_mean_word_length",
        "max_symbol_to_word_ratio",
        "max_bullet_line_ratio",
        "max_ellipsis_line_ratio",
        "min_alphabetic_word_ratio",
        "min_stop_words",
    ],
)
def test_every_limit_can_be_switched_off(limit):
    off = dict.fromkeys(GopherQualityStep.model_fields.keys() - {"kind", "stop_words"})
    broken = {
        "min_words": "of the and",
        "max_words": "word " * 100_001,
        "min_mean_word_length": "a b c",
        "max_mean_word_length": "incomprehensibilities",
        "max_symbol_to_word_ratio": "word ###",
        "max_bullet_line_ratio": "- word",
        "max_ellipsis_line_ratio": "word...",
        "min_alphabetic_word_ratio": "12 34",
        "min_stop_words": "word",
    }[limit]
    assert judge(broken, **off) == text(broken)
    default = GopherQualityStep.model_fields[limit].default
    assert isinstance(judge(broken, **(off | {limit: default})), Refusal)


@pytest.mark.parametrize(
    ("metadata", "kept"),
    [
        ({}, False),
        ({"language": {"language": "en", "score": 0.9}}, False),
        ({"language": {"language": "th", "score": 0.9}}, True),
        ({"language": "th"}, True),
    ],
)
def test_stop_words_are_those_of_the_language_found(metadata, kept):
    document = text(THAI, **metadata)
    assert (judge(document) is document) is kept


def test_stop_words_of_another_language_do_not_help_a_known_one():
    document = text(ENGLISH, language={"language": "zh", "score": 0.9})
    assert judge(document) == Refusal("gopher_enough_stop_words", 0)


def test_own_stop_words_replace_a_language_and_add_one():
    own = {"en": ("committee", "friday"), "th": ("ค", "ณ")}
    assert judge(ENGLISH, stop_words=own) == text(ENGLISH)
    assert judge(text(THAI, language="th"), stop_words=own) == text(THAI, language="th")
    assert judge(text(THAI, language="th"), stop_words={"th": ("ก", "ฮ")}) == Refusal(
        "gopher_enough_stop_words", 1
    )


def test_every_built_in_stop_word_is_one_word():
    wrong = [word for listed in STOP_WORDS.values() for word in listed if words(word) != [word]]
    assert wrong == []


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"min_words": 9, "max_words": 8}, "min_words=9 is above max_words=8; no document could be both"),
        ({"min_mean_word_length": 9.5, "max_mean_word_length": 8}, "min_mean_word_length=9.5 is above"),
        ({"stop_words": {"zh": ("我们",)}}, "stop_words.zh: '我们' never is one word; give single words"),
        ({"min_alphabetic_word_ratio": 1.5}, "less than or equal to 1"),
    ],
)
def test_impossible_limits_are_refused(values, problem):
    with pytest.raises(ValidationError, match=problem):
        GopherQualityStep(**values)


@pytest.mark.parametrize("content", ["", " \n\t", "\x00\x01\x02", "\ud800\udfff", "😀" * 50, "\u200f\u202e"])
def test_what_has_no_words_is_too_short(content):
    assert judge(content) == Refusal("gopher_short_doc", 0)
    assert judge(content, min_words=None, min_stop_words=None) == text(content)


def test_arabic_prose_stays():
    content = "اجتمعت اللجنة في المدينة من أجل النظر في التقرير على أن تعود إلى العمل غدا. " * 5
    assert judge(content) == text(content)


def test_a_conversation_is_judged_as_a_whole():
    messages = ({"role": "user", "content": ENGLISH[:180]}, {"role": "assistant", "content": ENGLISH[180:]})
    document = Document("u", "file", 1, "d", messages=messages)
    assert judge(document) is document


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", [ENGLISH, CHINESE, "\n- x", "#"], ids=["English", "Chinese", "lines", "hashes"]
)
def test_fifty_megabytes_take_seconds(piece):
    content = piece * (50_000_000 // len(piece.encode()))
    began = time.perf_counter()
    judge(content, max_words=None)
    assert time.perf_counter() - began < 60
