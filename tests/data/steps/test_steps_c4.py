"""C4's rules: which lines are cut, which pages go, in English and Chinese."""

import time

import pytest

from heliostat.data.documents import Document
from heliostat.data.steps.c4 import C4Step, count_sentences, make_c4
from heliostat.data.steps.interface import Refusal

ENGLISH = (
    "The mirrors follow the sun all day.\nTheir light falls on a single tower.\nThe salt in it keeps warm."
)
CHINESE = "定日镜整天跟着太阳转。\n光线都落在同一座塔上。\n塔里的熔盐能保温到晚上。"


def text(content: str, **metadata) -> Document:
    return Document("u", "file", 1, "d", content, metadata=metadata)


def judge(content: str, **options) -> Document | Refusal:
    return make_c4(C4Step(**options))(text(content))


@pytest.mark.parametrize("content", [ENGLISH, CHINESE, f"  {ENGLISH}\r\n\r\n{CHINESE}\n"])
def test_a_page_of_sentences_stays_as_it_is(content):
    document = text(content)
    assert make_c4(C4Step())(document) is document


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Home | About us | Contact | Imprint | Help", "no_terminal_punc"),
        ("首页 关于我们 联系方式", "no_terminal_punc"),
        ("And then something very strange happened...", "no_terminal_punc"),
        ("后来发生了一件很奇怪的事……", "no_terminal_punc"),
        ("Read more of this.", "too_few_words"),
        ("下一页。", "too_few_words"),
        (f"Here is a long word: {'x' * 1001}.", "too_long_word"),
        ("Please enable JavaScript to see this page.", "javascript"),
        ("请在浏览器中启用JavaScript。", "javascript"),
        ("This site uses cookies to improve itself.", "policy"),
        ("Please read our Privacy Policy before you go on.", "policy"),
    ],
)
def test_a_line_that_is_no_sentence_is_cut_and_counted(line, reason):
    for before, after in ((ENGLISH, CHINESE), (CHINESE, ENGLISH)):
        result = judge(f"{before}\n{line}\n{after}")
        assert result == text(f"{before}\n{after}", c4={"cut_lines": {reason: 1}})


@pytest.mark.parametrize(
    "line",
    [
        'He said, "This is where we stay tonight."',
        "He said: “This is where we stay tonight.”",
        "Is this the place where we stay?",
        "他说：“今晚我们就住在这里。”",
        "我们今晚住在这里吗？",
        "「今夜はここに泊まります」",
        "هل هذا هو المكان الذي نبحث عنه؟",
        "यह वही जगह है जहाँ हम रुकेंगे।",
        "今天天气很好，" * 200 + "我们去散步。",
        "A list [1] of things [2] is as good as a sentence!",
    ],
)
def test_a_sentence_is_kept(line):
    assert judge(f"{ENGLISH}\n{line}", cut_citations=False) == text(f"{ENGLISH}\n{line}")


def test_paragraphs_stay_apart_when_lines_are_cut():
    content = f"menu\n\n{ENGLISH}\n\n\n  \nmenu\n\n{CHINESE}\n\nmenu\n"
    assert judge(content) == text(f"{ENGLISH}\n\n{CHINESE}", c4={"cut_lines": {"no_terminal_punc": 3}})


def test_citations_are_cut_out_of_lines():
    content = "The mirrors[12] follow the sun[edit] all day.[citation needed] x[i] stays." + "\n" + ENGLISH
    expected = "The mirrors follow the sun all day. x[i] stays." + "\n" + ENGLISH
    assert judge(content) == text(expected)
    assert judge(content, cut_citations=False) == text(content)


@pytest.mark.parametrize(
    ("content", "options", "refusal"),
    [
        (f"{ENGLISH}\nLorem Ipsum dolor sit amet, consectetur.", {}, Refusal("lorem_ipsum")),
        (f"{CHINESE}\nif (x) {{", {}, Refusal("curly_bracket")),
        ("The mirrors follow the sun all day.", {}, Refusal("too_few_sentences", 1)),
        ("定日镜整天跟着太阳转。光线都落在塔上。", {}, Refusal("too_few_sentences", 2)),
        ("Home\nAbout\nContact", {}, Refusal("too_few_sentences", 0)),
        ("Home\nAbout\nContact", {"min_sentences": None}, Refusal("empty")),
        ("", {}, Refusal("too_few_sentences", 0)),
        (" \n\t\n", {}, Refusal("too_few_sentences", 0)),
        (ENGLISH, {"min_sentences": 5, "min_words_per_line": 3}, Refusal("too_few_sentences", 3)),
        ("\x00\ud800" * 9, {}, Refusal("too_few_sentences", 0)),
    ],
)
def test_a_page_is_dropped_with_its_reason(content, options, refusal):
    assert judge(content, **options) == refusal


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("Home | About us | Contact | Imprint | Help", {"require_terminal_punctuation": False}),
        ("Read more of this.", {"min_words_per_line": None}),
        ("Read more of this.", {"min_words_per_line": 4}),
        ("下一页。", {"min_words_per_line": 3}),
        (f"Here is a long word: {'x' * 1001}.", {"max_word_length": None}),
        (f"Here is a long word: {'x' * 1001}.", {"max_word_length": 1002}),
        ("Please enable JavaScript to see this page.", {"cut_javascript_lines": False}),
        ("This site uses cookies to improve itself.", {"cut_policy_lines": False}),
        ("Lorem ipsum dolor sit amet, consectetur.", {"refuse_lorem_ipsum": False}),
        ("This is a set { of five words }.", {"refuse_curly_brackets": False}),
    ],
)
def test_every_rule_can_be_switched_off(line, option):
    assert judge(f"{ENGLISH}\n{line}", **option) == text(f"{ENGLISH}\n{line}")


@pytest.mark.parametrize(
    ("content", "sentences"),
    [
        ("", 0),
        ("no mark at all", 1),
        ("One. Two! Three?", 3),
        ('He said "no." Then he left.', 2),
        ("Version 3.14 of it.", 1),
        ("See e.g. the book.", 1),
        ("Wait... what?!", 1),
        ("今天很好。明天呢？", 2),
        ("“你好。”他说。", 2),
        ("one\n\ntwo", 2),
        ("……", 1),
        ("." * 100, 1),
    ],
)
def test_sentences_are_counted(content, sentences):
    assert count_sentences(content, enough=10) == sentences


def test_sentences_are_counted_only_as_far_as_needed():
    assert count_sentences("One. Two. Three. Four.", enough=3) == 3


def test_sentences_of_marks_alone_are_counted_in_linear_time():
    began = time.perf_counter()
    assert count_sentences("." * 200_000 + "x", enough=5) == 1
    assert time.perf_counter() - began < 5


def test_no_line_of_a_conversation_is_cut():
    messages = (
        {"role": "user", "content": "a heliostat"},
        {"role": "assistant", "content": ENGLISH + "\nmenu"},
    )
    document = Document("u", "file", 1, "d", messages=messages)
    assert make_c4(C4Step())(document) is document
    code = ({"role": "user", "content": "how"}, {"role": "assistant", "content": "f() { }"})
    assert make_c4(C4Step())(Document("u", "file", 1, "d", messages=code)) == Refusal("curly_bracket")


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    [
        "The mirrors follow the sun all day.\n",
        "定日镜整天跟着太阳转。",
        "menu\n",
        '.")',
        ". ",
        "。",
        "[",
    ],
)
def test_fifty_megabytes_take_seconds(piece):
    content = piece * (50_000_000 // len(piece.encode()))
    began = time.perf_counter()
    judge(content, min_sentences=100_000_000)
    assert time.perf_counter() - began < 120
