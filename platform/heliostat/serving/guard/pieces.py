"""What is hidden in a text by writing it otherwise: base64, hexadecimal, percent signs, letters apart, tags.

A piece counts only when it decodes to something that can be read, so that hashes and long names cost little.
All forms are searched with RE2, in linear time.
"""

import binascii
import html
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import unquote

from heliostat.serving.guard.folding import Folded

_LEAST_READABLE = 8
_READABLE_RUN = re.compile(r"[\x20-\x7e\t\r\n]{12,}")
_TAGS = re.compile("[\U000e0020-\U000e007e]{4,}")
_URL_SAFE = str.maketrans("-_", "+/", " =")
_NOT_HEXADECIMAL = re.compile(r"\\x|0x|[^0-9a-fA-F]")
_BETWEEN_LETTERS = re.compile(r"[ .\-_*+|~/]+")


class Piece(NamedTuple):
    """A part of a text, text[start:end], and what it says."""

    start: int
    end: int
    says: str


def decode_pieces(text: str, folded: Folded, most: int) -> list[Piece]:
    """All pieces of a text, whose folded form is given, until they say `most` characters together."""
    found: list[Piece] = []
    room = most
    for piece in _pieces(text, folded):
        if room <= 0:
            break
        says = piece.says[:room]
        room -= len(says)
        found.append(Piece(piece.start, piece.end, says))
    return found


def _pieces(text: str, folded: Folded) -> Iterator[Piece]:
    # As UTF-8 a tag character starts so; looking for that is fifty times as fast as looking for a range.
    if not text.isascii() and b"\xf3\xa0" in text.encode("utf-8", "surrogatepass"):
        for match in _TAGS.finditer(text):
            says = "".join(chr(ord(character) - 0xE0000) for character in match.group())
            yield Piece(*match.span(), says)
    searched = folded.text
    for sign, form, decode in _forms():
        if sign and sign not in searched:
            continue
        for match in form.finditer(searched):
            says = decode(match.group())
            if says:
                start, end = match.span()
                yield Piece(folded.origin(start), folded.origin_end(end), says)


@cache
def _forms() -> tuple[tuple[str, Any, Callable[[str], str]], ...]:
    """What must stand in a text, what is looked for then, and what it says."""
    import re2

    return (
        # Lines of 60 and more characters, then the last one.
        ("", re2.compile(r"(?:[A-Za-z0-9+/_-]{60,} )*[A-Za-z0-9+/_-]{16,}={0,2}"), _from_base64),
        ("", re2.compile(r"(?:(?:\\x|0x)?[0-9a-fA-F]{2}[ ,:;]{0,2}){10,}"), _from_hexadecimal),
        ("%", re2.compile(r"(?:[^ %]{0,20}%[0-9a-fA-F]{2}){3,}[^ %]{0,60}"), unquote),
        ("&#", re2.compile(r"(?:[^&]{0,20}&#[xX]?[0-9a-fA-F]{1,6};){3,}[^ &]{0,60}"), html.unescape),
        ("\\u", re2.compile(r"(?:\\u[0-9a-fA-F]{4}){4,}"), _from_escapes),
        ("", re2.compile(r"\b(?:[\pL0-9$@][ .\-_*+|~/]{1,3}){7,}[\pL0-9$@]\b"), _from_letters),
    )


def _from_base64(run: str) -> str:
    """What a run says; where it is glued to something else in front, what can be read from any alignment."""
    run = run.translate(_URL_SAFE)
    exact = _decoded(run)
    if exact is not None:
        says = _readable(exact)
        if says or len(run) < 24:
            return says
    for skipped in range(4):
        content = _decoded(run[skipped:])
        if content is not None:
            runs = _READABLE_RUN.findall(content.decode("latin-1"))
            if runs:
                return " ".join(runs)
    return ""


def _decoded(run: str) -> bytes | None:
    run = run[: len(run) - (len(run) % 4 == 1)]
    try:
        return b64decode(run + "=" * (-len(run) % 4), validate=True)
    except binascii.Error:
        return None


def _from_hexadecimal(run: str) -> str:
    digits = _NOT_HEXADECIMAL.sub("", run)
    return _readable(bytes.fromhex(digits[: len(digits) & ~1]))


def _readable(content: bytes) -> str:
    """The text that bytes are, or nothing. Zero bytes go: Windows writes two bytes a letter."""
    try:
        text = content.replace(b"\0", b"").decode("utf-8")
    except UnicodeDecodeError:
        return ""
    shown = sum(character.isprintable() or character.isspace() for character in text)
    return text if len(text) >= _LEAST_READABLE and shown >= 0.9 * len(text) else ""


def _from_escapes(run: str) -> str:
    return "".join(chr(int(code, 16)) for code in run.split("\\u")[1:])


def _from_letters(run: str) -> str:
    return _BETWEEN_LETTERS.sub("", run)
