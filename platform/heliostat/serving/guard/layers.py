"""A text in all the forms in which it is searched: as it is, folded, and what is hidden in it."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from heliostat.serving.guard.config import Unfolding
from heliostat.serving.guard.folding import Folded, lowered
from heliostat.serving.guard.matching import PersonalData
from heliostat.serving.guard.pieces import Piece, decode_pieces
from heliostat.serving.guard.rules import Looked

# Between pieces that are searched together: no letter, so that no word goes on over it.
_BETWEEN = "\n¶\n"


@dataclass(frozen=True)
class Layer:
    """A text, or all pieces of the layer above; `pieces` are then their places in the very first text."""

    text: str
    folded: Folded
    pieces: tuple[tuple[int, int], ...] = ()
    starts: tuple[int, ...] = ()
    """Where in `text` each piece begins."""

    @cached_property
    def lowered(self) -> str:
        """The folded form in small letters."""
        return lowered(self.folded.text)

    def spots(self, looked: Looked) -> Iterator[tuple[int, int, str]]:
        """What a rule finds: where in the very first text, and what."""
        if looked.in_lowered:
            for spot in looked.matcher.spots(self.lowered):
                yield *self._unfolded(spot.start, spot.end), spot.what
            return
        for spot in looked.matcher.spots(self.text):
            yield *self.place(spot.start, spot.end), spot.what
        if self._is_searched_folded(looked):
            for spot in looked.matcher.spots(self.folded.text):
                yield *self._unfolded(spot.start, spot.end), spot.what

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Where in the very first text a part of this one lies."""
        if not self.pieces:
            return start, end
        first = max(bisect_right(self.starts, start) - 1, 0)
        last = max(bisect_right(self.starts, end - 1) - 1, first)
        return self.pieces[first][0], max(each[1] for each in self.pieces[first : last + 1])

    def _unfolded(self, start: int, end: int) -> tuple[int, int]:
        return self.place(self.folded.origin(start), self.folded.origin_end(end))

    def _is_searched_folded(self, looked: Looked) -> bool:
        if self.folded.text == self.text:
            return False
        # Line ends as spaces make no difference to personal data.
        return not (isinstance(looked.matcher, PersonalData) and self.text.isascii())


def unfold(text: str, how: Unfolding) -> list[Layer]:
    """The layers of a text, the text itself first."""
    layers = [Layer(text, Folded(text, how.fold))]
    if not how.decode:
        return layers
    for _ in range(how.max_depth):
        above = layers[-1]
        pieces = decode_pieces(above.text, above.folded, how.max_decoded_characters)
        if not pieces:
            break
        layers.append(_layer_of(above, pieces, how.fold))
    return layers


def _layer_of(above: Layer, pieces: list[Piece], fold: bool) -> Layer:
    starts: list[int] = []
    at = 0
    for piece in pieces:
        starts.append(at)
        at += len(piece.says) + len(_BETWEEN)
    text = _BETWEEN.join(piece.says for piece in pieces)
    places = tuple(above.place(piece.start, piece.end) for piece in pieces)
    return Layer(text, Folded(text, fold), places, tuple(starts))
