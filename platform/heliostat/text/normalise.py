"""Repairing text without changing what it says: Unicode, line ends, invisible characters, white space.

Everything here reads a text a fixed number of times, whatever is in it; most texts are clean, so each repair
is behind a check that costs less than the repair.
"""

import re
import string
import unicodedata
from functools import cache
from typing import Literal

import xxhash

UnicodeForm = Literal["NFC", "NFKC"]

_LINE_ENDS = "\r\x0b\x0c\x85\u2028\u2029"
# All C0 and C1 controls but tab, line feed and the line ends above.
_CONTROLS = "".join(map(chr, [*range(9), *range(0x0E, 0x20), 0x7F, *range(0x80, 0x85), *range(0x86, 0xA0)]))
# Zero-width space, word joiner, byte order mark, soft hyphen. The zero-width joiners U+200C and U+200D stay:
# Persian, Indic scripts and emoji are spelt with them.
_INVISIBLE = "\u200b\u2060\ufeff\u00ad"
_WIDE_SPACES = (
    "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
)
_REPAIRS = dict.fromkeys(_LINE_ENDS, "\n") | dict.fromkeys(_CONTROLS + _INVISIBLE, "")
_REPAIRS |= dict.fromkeys(_WIDE_SPACES, " ")
_TO_REPAIR = re.compile(f"[{re.escape(''.join(_REPAIRS))}]")
_BLANK_LINES = re.compile(r"\n{3,}")

# The same for ASCII, where bytes.translate needs a nanosecond or two a character.
_ASCII_CONTROLS = bytes(ord(control) for control in _CONTROLS if control < "\x80")
_ASCII_LINE_ENDS = bytes.maketrans(b"\r\x0b\x0c", b"\n\n\n")
_ASCII_SPACES = bytes.maketrans(b"\t\n\r\x0b\x0c", b"     ")
# What there is to repair is seen in this form: \0 for what has to go or to change, a space for a tab.
_ASCII_SIGHT = bytes.maketrans(_ASCII_CONTROLS + b"\r\x0b\x0c\t", bytes(len(_ASCII_CONTROLS) + 3) + b" ")

_ASCII_PUNCTUATION = string.punctuation.encode()
# string.punctuation counts these signs, which are none to Unicode; so their full-width forms are some, too.
_SIGNS = "$+<=>^`|~＄＋＜＝＞＾｀｜～"
_LAST_PUNCTUATION = 0x1FFFF  # no character above it is punctuation in Unicode 16

# The encodings that UTF-8 gets read as and that ftfy can undo.
_MISTAKEN_FOR = (
    *("latin-1", "iso8859-2", "mac_roman", "cp437"),
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1257"),
)


def normalise(text: str, unicode_form: UnicodeForm = "NFC") -> str:
    """The text composed, with plain line ends and spaces, no invisible characters and no blank borders.

    At most one blank line stays in a row. Indentation and runs of spaces in a line stay: they may be code.
    Normalising twice changes nothing: characters go before the rest is composed, because a letter and its
    accent may stand on both sides of one that goes.
    """
    if text.isascii():
        raw = text.encode()
        seen = raw.translate(_ASCII_SIGHT)
        if b"\0" in seen:
            text = raw.replace(b"\r\n", b"\n").translate(_ASCII_LINE_ENDS, _ASCII_CONTROLS).decode()
        elif b" \n" not in seen and b"\n\n\n" not in seen:
            return text.strip("\n").rstrip()
    else:
        text = unicodedata.normalize(unicode_form, _repair_characters(text))
    # The only white space left is tabs, line feeds and spaces, so that rstrip takes no more than it should.
    text = "\n".join(map(str.rstrip, text.split("\n")))
    if "\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n", text)
    return text.strip("\n").rstrip()


def comparison_key(texts: list[str]) -> bytes:
    """16 bytes (xxh3-128) that are equal for texts which differ only in white space and Unicode form.

    What `normalise` removes does not count either. A text counts as its characters with one space for each
    run of white space, none at its borders.
    """
    digest = xxhash.xxh3_128()
    for text in texts:
        digest.update(_with_single_spaces(text))
        digest.update(b"\xff")  # no byte of UTF-8: ["a", "b"] differs from ["ab"]
    return digest.digest()


def collapse_spaces(text: str) -> str:
    """The text with one space for each run of spaces and tabs in a line, none at the line's borders."""
    if "  " not in text and "\t" not in text and "\n " not in text and not text.startswith(" "):
        return text
    return "\n".join([" ".join(line.split()) for line in text.split("\n")])


def remove_punctuation(text: str) -> str:
    """The text without Unicode's punctuation (all categories P) and the signs ``$+<=>^`|~``.

    They leave no space behind: `well-known` becomes `wellknown`, `你好，世界` becomes `你好世界`.
    """
    if text.isascii():
        return text.encode().translate(None, _ASCII_PUNCTUATION).decode()
    for mark in _punctuation() & set(text):
        text = text.replace(mark, "")
    return text


def _repair_characters(text: str) -> str:
    # A text has few different ones of them, and str.replace is several times as fast as re.sub.
    found = set(_TO_REPAIR.findall(text))
    if "\r" in found:
        text = text.replace("\r\n", "\n")
    for character in found:
        text = text.replace(character, _REPAIRS[character])
    return text


def _with_single_spaces(text: str) -> bytes:
    if not text.isascii():
        text = unicodedata.normalize("NFC", _repair_characters(text))
        return " ".join(text.split()).encode("utf-8", "surrogatepass")
    raw = text.encode().translate(_ASCII_SPACES, _ASCII_CONTROLS)
    if b"  " in raw:
        raw = _without_repeated_spaces(raw)
    return raw.strip(b" ")


def _without_repeated_spaces(raw: bytes) -> bytes:
    """One space for each run; where all else is above the space. Twice as fast as split and join."""
    import numpy as np

    characters = np.frombuffer(raw, np.uint8)
    kept = characters > ord(" ")
    kept[1:] |= kept[:-1]
    return characters[kept].tobytes()


@cache
def _punctuation() -> frozenset[str]:
    characters = map(chr, range(_LAST_PUNCTUATION + 1))
    return frozenset(_SIGNS).union(each for each in characters if unicodedata.category(each)[0] == "P")


def repair_mojibake(text: str) -> str:
    """The text with UTF-8 that was read as another encoding read again as UTF-8: `cafÃ©` becomes `café`.

    ftfy's encoding repair, line by line, and none of its other fixes. It is slow, some 2 MB/s, so it sees
    only lines that hold a sequence which could be such UTF-8. Not seen is a line whose only damage is a lost
    no-break space, other than behind `Â` and `Ã`.
    """
    signs = None if text.isascii() else _mojibake_signs()
    if signs is None or not signs.search(text):
        return text
    import ftfy  # 0.3 s

    lines = text.split("\n")
    return "\n".join([ftfy.fix_encoding(line) if signs.search(line) else line for line in lines])


@cache
def _mojibake_signs() -> re.Pattern[str]:
    """A first byte of UTF-8 and the bytes that have to follow, each as any of the encodings shows it."""
    two, three, four, rest = (
        _shown_as(*of) for of in ((0xC2, 0xE0), (0xE0, 0xF0), (0xF0, 0xF5), (0x80, 0xC0))
    )
    rest = f"[{rest}\ufffd]"
    return re.compile(
        f"[\x80-\x9f{two}{three}{four}](?:(?<=[\x80-\x9f])|(?<=[{two}]){rest}|(?<=[{three}]){rest}{rest}"
        f"|(?<=[{four}]){rest}{rest}{rest}|(?<=[ÂÃ]) )"
    )


def _shown_as(first: int, end: int) -> str:
    """All that single-byte encodings make of these bytes, for a character class."""
    shown = {
        bytes([code]).decode(encoding, "ignore") for encoding in _MISTAKEN_FOR for code in range(first, end)
    }
    return re.escape("".join(sorted(shown)))
