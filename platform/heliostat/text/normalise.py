"""Repairing text without changing what it says: Unicode, line ends, invisible characters, white space."""

import re
import unicodedata
from typing import Literal

import xxhash

# Zero-width space, word joiner, byte order mark, soft hyphen. The zero-width joiners U+200C and U+200D stay:
# Persian, Indic scripts and emoji are spelt with them.
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")
# All C0 and C1 controls but tab and line feed.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
_WIDE_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_TRAILING = re.compile(r"[ \t]+(?=\n|$)")
_BLANK_LINES = re.compile(r"\n{3,}")
_SPACES = re.compile(r"\s+")


def normalise(text: str, unicode_form: Literal["NFC", "NFKC"] = "NFC") -> str:
    """The text composed, with plain line ends and spaces, no invisible characters and no blank borders.

    At most one blank line stays in a row. Indentation and runs of spaces in a line stay: they may be code.
    """
    text = unicodedata.normalize(unicode_form, text)
    text = _LINE_END.sub("\n", text)
    text = _CONTROL.sub("", text)
    text = _INVISIBLE.sub("", text)
    text = _WIDE_SPACE.sub(" ", text)
    text = _TRAILING.sub("", text)
    text = _BLANK_LINES.sub("\n\n", text)
    return text.strip("\n").rstrip()


def comparison_key(texts: list[str]) -> bytes:
    """16 bytes (xxh3-128) that are equal for texts which differ only in white space and Unicode form."""
    digest = xxhash.xxh3_128()
    for text in texts:
        digest.update(_SPACES.sub(" ", normalise(text)).strip().encode("utf-8", "surrogatepass"))
        digest.update(b"\xff")  # no byte of UTF-8: ["a", "b"] differs from ["ab"]
    return digest.digest()
