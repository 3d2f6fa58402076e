"""Whether two questions that lie near by vector say the same, word by word.

Vectors of sentences hardly see an order ("from 3 to 5"), a "not", one name among thirty words, or the script
of a language their model never learnt. So the rule is strict: all words must be the same, in the same order,
but for those that can be exchanged without harm (`wording.py`): politeness, articles, and the ways to begin a
question. A clause may stand in front of the rest or behind it. What is no word, numbers, quoted text,
identifiers, units and symbols, must be the same letter by letter, and a text that is about words is not
compared at all. What the rule wrongly keeps apart costs an answer made anew; what it wrongly joins would be a
wrong answer.
"""

import re
import sys
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from heliostat.serving.cache.wording import (
    ABOUT_WORDS,
    ABOUT_WORDS_CHINESE,
    AUXILIARIES,
    CAPITALS_MATTER,
    CHINESE_OPENING,
    CHINESE_REWORDINGS,
    ENDING,
    LONGEST_ENDING,
    NAMES_OR_WORDS,
    NUMBER_WORDS,
    OPENING,
    REWORDINGS,
    WEIGHTLESS,
    Rule,
)

_QUOTED = re.compile(
    r"\"([^\"]*)\"|“([^“”]*)”|`([^`]*)`|「([^「」]*)」|『([^『』]*)』|«([^«»]*)»|《([^《》]*)》"
    r"|(?<!\w)'([^'\n]+)'(?!\w)"
)
_MARK = "\ue000"  # private use: stands for a quoted piece while the rest is read
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # each a word
_TOKEN = re.compile(
    rf"(?P<quoted>{_MARK})"
    r"|(?P<number>(?:(?<![\w)\]])[-+−])?\d+(?:[.,:/-]\d+)*)"
    rf"|(?P<alone>[{_ALONE}])"
    rf"|(?P<compound>[^\W{_ALONE}]+(?:(?:::|[._/@\\-])[^\W{_ALONE}]+)+)"
    rf"|(?P<word>[^\W{_ALONE}\d][^\W{_ALONE}]*)"
    r"|(?P<comma>[,，;；](?=\s|$|[^\x00-\x7f]))"
    r"|(?P<light>(?<!\d)[!'\"](?=\W|$)|[.:?…。、：！？¿¡]+(?=\s|$|[^\x00-\x7f])|[¿¡])"
    r"|(?P<symbol>\S)"
)
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_FULL_WIDTH: dict[int, int | str] = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F) if chr(code) not in "，；：！？"},
    **{0x3000: " ", 0x2019: "'", 0x2018: "'", 0x00A0: " "},
}
_LONGEST_UNIT = 3
_BRINGS_MORE = re.compile(r"[:：]\s*[^\s\d/:]")
_LETTERS = re.compile(r"[a-z]+")
_LIGHT = " ,.?!，。？！"


@dataclass(frozen=True)
class Meaning:
    """A question in plain words, for its vector; its words of weight; where among them a clause begins."""

    plain: str
    words: tuple[str, ...]
    breaks: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """The memory that it takes, roughly."""
        return sys.getsizeof(self.plain) + sum(sys.getsizeof(word) + 16 for word in self.words)


@lru_cache(maxsize=256)  # for the look-up and for keeping the answer
def read_meaning(text: str) -> Meaning | None:
    """The words of weight in a question; None when it has none, or is not for comparing."""
    if _is_about_words(text):
        return None
    quoted: list[str] = []

    def set_aside(match: re.Match[str]) -> str:
        quoted.append(next(group for group in match.groups() if group is not None))
        return f" {_MARK} "

    plain = unicodedata.normalize("NFC", text).translate(_FULL_WIDTH)
    reader = _Reader(quoted, shouting=text.upper() == text)
    plain = _reworded(_QUOTED.sub(set_aside, plain))
    reader.read(plain)
    if not reader.words:
        return None
    pieces = iter(quoted)
    spoken = re.sub(_MARK, lambda _: f"'{next(pieces)}'", plain)
    return Meaning(spoken.rstrip(_LIGHT), tuple(reader.words), tuple(reader.breaks))


def _is_about_words(text: str) -> bool:
    """Whether a text brings words of which each counts: code, a poem, a sentence to translate."""
    if "\n" in text or "```" in text or _MARK in text or _BRINGS_MORE.search(text):
        return True
    if not text.isascii() and ABOUT_WORDS_CHINESE.search(text):
        return True
    return not ABOUT_WORDS.isdisjoint(_LETTERS.findall(text.lower()))


def difference(one: Meaning, other: Meaning) -> str | None:
    """What keeps two questions apart; None when they say the same."""
    if one.words == other.words or _turned_around(one, other) or _turned_around(other, one):
        return None
    if sorted(one.words) == sorted(other.words):
        return "the same words in another order"
    apart = set(one.words) ^ set(other.words)
    return f"not in both: {', '.join(sorted(apart))}" if apart else "a word more often"


def _turned_around(one: Meaning, other: Meaning) -> bool:
    """Whether one is the other with its first clause at the end; only where all is words."""
    if len(one.words) != len(other.words) or not all(word.isalpha() for word in one.words):
        return False
    return any(
        2 <= place <= len(one.words) - 2 and one.words[place:] + one.words[:place] == other.words
        for place in one.breaks
    )


def _reworded(text: str) -> str:
    """The text without ways of speaking that change nothing."""
    text = _without_endings(text.strip())
    if not text.isascii():
        text = _without_openings(_replaced(text, CHINESE_REWORDINGS), CHINESE_OPENING)
    return _without_openings(_replaced(text, REWORDINGS), OPENING)


def _replaced(text: str, rules: tuple[Rule, ...]) -> str:
    lowered = text.lower()
    for rule in rules:
        if rule.sign in lowered:
            text = rule.pattern.sub(rule.replacement, text)
            lowered = text.lower()
    return text


def _without_openings(text: str, opening: re.Pattern[str]) -> str:
    begin = 0
    while match := opening.match(text, begin):
        begin = match.end()
    return text[begin:]


def _without_endings(text: str) -> str:
    while match := ENDING.search(stripped := text.rstrip(_LIGHT), max(0, len(stripped) - LONGEST_ENDING)):
        text = stripped[: match.start()]
    return text


class _Reader:
    """Collects the words of weight from left to right."""

    def __init__(self, quoted: list[str], shouting: bool) -> None:
        self.words: list[str] = []
        self.breaks: list[int] = []
        self._quoted = iter(quoted)
        self._shouting = shouting
        self._clause_begins = self._first = True
        self._behind_number = False

    def read(self, text: str) -> None:
        """Take the whole text."""
        for match in _TOKEN.finditer(text):
            kind = match.lastgroup
            if kind == "comma":
                self._begin_clause()
            elif kind != "light":
                self._take(kind or "symbol", match.group())

    def _begin_clause(self) -> None:
        if self.words:
            self.breaks.append(len(self.words))
        self._clause_begins, self._behind_number = True, False

    def _take(self, kind: str, token: str) -> None:
        word: str | None = token
        if kind == "quoted":
            word = f"“{next(self._quoted)}”"
        elif kind == "number":
            word = token.replace(",", "") if _THOUSANDS.fullmatch(token.lstrip("+-−")) else token
        elif kind == "word":
            word = self._weigh(token)
        self._clause_begins = self._first = False
        self._behind_number = kind == "number" or (word is not None and word.isdecimal())
        if word is not None:
            self.words.append(word)

    def _weigh(self, token: str) -> str | None:
        """The word in the form in which it is compared; None when it has no weight."""
        folded = token.casefold()
        if self._behind_number:
            return token if len(token) <= _LONGEST_UNIT else folded  # mW is not MW
        if not self._shouting and _is_marked_by_capitals(token, folded, self._first):
            return token
        if token[1:] != token[1:].lower() and token != token.upper():
            return token  # camelCase
        if self._clause_begins and folded in AUXILIARIES:
            return "is it so"
        if folded in WEIGHTLESS:
            return None
        return NUMBER_WORDS.get(folded, folded)


def _is_marked_by_capitals(token: str, folded: str, first: bool) -> bool:
    """US, WHO, vitamin A and Turkey, which in small letters are other words or none."""
    if len(token) > 1 and token.isupper() and folded in CAPITALS_MATTER:
        return True
    return not first and (token == "A" or (token.istitle() and folded in NAMES_OR_WORDS))
