"""The form in which a text is searched, and where in the text each of its characters comes from.

Each character is folded on its own: compatibility decomposition (NFKD), without accents and invisible
characters, look-alike letters as the Latin ones, any white space as one space. So the folded form of two
pieces is that of their sum, however an answer is cut into pieces. Only runs of spaces look back: one stays.
Signs of vowels, of scripts in which they are part of the spelling, stay.
"""

import re
import unicodedata
from bisect import bisect_right

from heliostat.serving.guard.lookalikes import LOOKALIKES

# Nothing folds to more: the Arabic ligature U+FDFA has 18 letters.
_MOST_KEPT = 1 << 16
_BLOCK = 2048
_ASCII_CONTROLS = bytes(
    code for code in (*range(32), 127) if chr(code) not in "\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f"
)
_ASCII_SPACES = bytes.maketrans(b"\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f", b" " * 9)
# Accents, points and strokes that may be put on any letter; Hebrew points and Arabic vowels may be left out.
_MARKS = (
    (0x0300, 0x036F), (0x0483, 0x0489), (0x0591, 0x05BD), (0x064B, 0x065F), (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE20, 0xFE2F),
)  # fmt: skip
# Of letters' and symbols' kind, yet nothing is seen of them: fillers, tatweel, braille blank, selectors.
_UNSEEN = frozenset("\u034f\u0640\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0\ufffc")


class _Foldings(dict[int, str]):
    """What each code point folds to, worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        folded = _fold_character(chr(code))
        if len(self) < _MOST_KEPT:
            self[code] = folded
        return folded


def _fold_character(character: str) -> str:
    kept = LOOKALIKES.get(character)
    if kept is not None:
        return kept
    return "".join(_fold_part(part) for part in unicodedata.normalize("NFKD", character))


def _fold_part(part: str) -> str:
    code = ord(part)
    if part.isspace():
        return " "
    if any(first <= code <= last for first, last in _MARKS) or part in _UNSEEN:
        return ""
    category = unicodedata.category(part)
    if category in ("Cc", "Cf") or 0xFE00 <= code <= 0xFE0F or 0xE0000 <= code <= 0xE0FFF:
        return ""
    if category == "Cs":
        return "?"  # no character, and nothing that UTF-8 could hold
    kept = LOOKALIKES.get(part, part)
    # A small letter that is longer than its capital would move all places behind it.
    return (
        kept if len(kept.lower()) == len(kept) else "".join(each for each in kept.lower() if each.isalpha())
    )


_FOLDINGS = _Foldings()
_TO_FOLD = re.compile(r"[^ -~]+")


def fold(text: str, behind_space: bool = False) -> str:
    """The folded form; `behind_space` says that a space stands in front, so that none begins it."""
    if text.isascii():
        folded = text.encode().translate(_ASCII_SPACES, _ASCII_CONTROLS).decode()
    else:
        # Most of most texts folds to itself, and str.translate takes as long for that.
        folded = _TO_FOLD.sub(lambda run: run.group().translate(_FOLDINGS), text)
    if "  " in folded:  # the only white space left is spaces
        first = " " if folded.startswith(" ") else ""
        last = " " if folded.endswith(" ") else ""
        folded = f"{first}{' '.join(folded.split())}{last}" if folded.strip() else " "
    return folded[1:] if behind_space and folded.startswith(" ") else folded


def fold_spaces(text: str, behind_space: bool = False) -> str:
    """The text with one space for each run of them, and nothing else folded."""
    while "  " in text:
        text = text.replace("  ", " ")
    return text[1:] if behind_space and text.startswith(" ") else text


def lowered(folded: str) -> str:
    """A folded text in small letters, and as long: each letter on its own, whatever stands around it."""
    small = folded.lower()
    if folded.isascii():
        return small
    if len(small) != len(folded):  # not folded, and with letters that are longer when small
        small = "".join(each if len(each.lower()) > 1 else each.lower() for each in folded)
    return small.replace("ς", "σ")


class Folded:
    """The folded form of a text that comes in pieces; places count from the beginning of all of it.

    `text` is what is kept of the folded form, from `start` on.
    """

    __slots__ = ("_blocks", "_fold", "_mapped", "_received", "_starts", "start", "text")

    def __init__(self, text: str = "", folds: bool = True) -> None:
        """With `folds` off only runs of spaces fold."""
        self._fold = fold if folds else fold_spaces
        self.text = ""
        self.start = 0
        self._received = 0
        # Of each block: where its folded form starts, where it starts itself, its text, and whether a space
        # stands in front of it.
        self._starts: list[int] = []
        self._blocks: list[tuple[int, str, bool]] = []
        # The block that was mapped last, by where it starts.
        self._mapped: tuple[int, list[int]] = (-1, [])
        if text:
            self.push(text)

    @property
    def end(self) -> int:
        """Where the folded form ends."""
        return self.start + len(self.text)

    def push(self, text: str) -> None:
        """Take what follows."""
        parts = [self.text]
        end, behind_space = self.end, self.text.endswith(" ")
        for first in range(0, len(text), _BLOCK):
            block = text[first : first + _BLOCK]
            folded = self._fold(block, behind_space)
            self._starts.append(end)
            self._blocks.append((self._received, block, behind_space))
            self._received += len(block)
            end += len(folded)
            if folded:
                parts.append(folded)
                behind_space = folded.endswith(" ")
        self.text = "".join(parts)

    def forget(self, place: int) -> None:
        """Keep nothing of the folded form in front of a place, but the character in front of it."""
        place = max(self.start, place - 1)
        self.text = self.text[place - self.start :]
        self.start = place
        gone = bisect_right(self._starts, place) - 1
        if gone > 0:
            del self._starts[:gone], self._blocks[:gone]

    def place_of(self, origin: int) -> int:
        """The place where the block begins that a character of the text belongs to."""
        number = bisect_right(self._blocks, origin, key=lambda block: block[0]) - 1
        return max(self._starts[number], self.start) if number >= 0 else self.start

    def origin(self, place: int) -> int:
        """Where the character stands in the text that made the one at a place of the folded form."""
        if place >= self.end:
            return self._received
        number = bisect_right(self._starts, place) - 1
        first, block, behind_space = self._blocks[number]
        if self._mapped[0] != first:
            self._mapped = first, self._origins(first, block, behind_space)
        return self._mapped[1][place - self._starts[number]]

    def origin_end(self, place: int) -> int:
        """Where the character ends in the text that made the last one in front of a place."""
        return self.origin(place - 1) + 1

    def _origins(self, first: int, block: str, behind_space: bool) -> list[int]:
        """Where in the text each character of a block's folded form comes from."""
        origins: list[int] = []
        for index, character in enumerate(block, first):
            if "!" <= character <= "~":
                origins.append(index)
                behind_space = False
                continue
            made = self._fold(character, behind_space)
            if made:
                origins += [index] * len(made)
                behind_space = made.endswith(" ")
        return origins
