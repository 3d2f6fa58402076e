"""From streamed token ids to text that can be shown: no broken characters, nothing behind a stop string."""

import codecs
from collections.abc import Mapping, Sequence
from typing import Any

from heliostat.serving.api.vocabulary import Vocabulary, vocabulary_of

# An incomplete UTF-8 character has at most 3 bytes, so 3 tokens; what is broken before them stays so.
MAX_INCOMPLETE_TOKENS = 3
MAX_HELD_TOKENS = 8
BROKEN = "\N{REPLACEMENT CHARACTER}"
_UTF8 = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """One answer's text, token by token. The pieces together are what decoding all ids at once gives.

    A piece that ends inside a character waits for more.
    """

    def __init__(
        self,
        tokenizer: Any,
        hidden_ids: frozenset[int] = frozenset(),
        spelled: Mapping[int, str] | None = None,
    ) -> None:
        """`hidden_ids` are left out, beside the tokenizer's special tokens; those `spelled` are not."""
        vocabulary = vocabulary_of(tokenizer)
        self._hidden_ids = hidden_ids
        self._spelled = spelled or {}
        self._text: _ByteText | _NeighbourText = (
            _ByteText(vocabulary) if vocabulary.byte_level else _NeighbourText(vocabulary)
        )

    def push(self, token_ids: Sequence[int]) -> str:
        """The text that is certain now; "" while a character is incomplete."""
        if not self._hidden_ids.isdisjoint(token_ids):
            token_ids = [token for token in token_ids if token not in self._hidden_ids]
        if self._spelled and not self._spelled.keys().isdisjoint(token_ids):
            return "".join(map(self._push_spelled, token_ids))
        return self._text.push(token_ids)

    def flush(self) -> str:
        """What is left at the end, broken characters included."""
        return self._text.flush()

    def _push_spelled(self, token: int) -> str:
        if token in self._spelled:
            return self._text.flush() + self._spelled[token]
        return self._text.push((token,))


class _ByteText:
    """Text of byte-level tokens: their bytes, as UTF-8.

    Both decoders, this and the tokenizer's, put one mark for each longest broken piece (Unicode 15, 3.9).
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._bytes = vocabulary.shown
        self._decoder = _UTF8("replace")

    def push(self, token_ids: Sequence[int]) -> str:
        return self._decoder.decode(b"".join([self._bytes[token] for token in token_ids]))

    def flush(self) -> str:
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text


class _NeighbourText:
    """Text of tokens that some decoders join, or strip of a space, depending on the token before.

    Each step decodes the last piece's ids and the new ones, and keeps what came in addition.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._decode = vocabulary.decode
        self._context: list[int] = []
        self._known = ""
        self._held: list[int] = []

    def push(self, token_ids: Sequence[int]) -> str:
        return "".join(map(self._push_one, token_ids))

    def flush(self) -> str:
        return self._release(len(self._held), self._new_text(len(self._held)))

    def _push_one(self, token: int) -> str:
        self._held.append(token)
        text = self._new_text(len(self._held))
        if not text.endswith(BROKEN):
            return self._release(len(self._held), text)
        if len(self._held) > MAX_HELD_TOKENS:
            certain = len(self._held) - MAX_INCOMPLETE_TOKENS
            return self._release(certain, self._new_text(certain))
        return ""

    def _new_text(self, count: int) -> str:
        """What the first `count` held tokens add."""
        return self._decode(self._context + self._held[:count])[len(self._known) :]

    def _release(self, count: int, text: str) -> str:
        if text:  # ids without text (special tokens) stay: alone they are no context to strip against
            self._context, self._held = self._held[:count], self._held[count:]
            self._known = self._decode(self._context)
        return text


class StopStrings:
    """Cuts an answer in front of the first stop string, also where that arrives in several pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """The text that cannot be part of a stop string; sets `stopped` when one is complete."""
        if not self._stops or self.stopped:
            return "" if self.stopped else text
        self._held += text
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = max(overlap(self._held, stop) for stop in self._stops)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def flush(self) -> str:
        """What was held back for a stop string that never came."""
        shown, self._held = self._held, ""
        return shown


def overlap(text: str, mark: str) -> int:
    """The length of the longest end of `text` that is a beginning of `mark`."""
    return next(
        (size for size in range(min(len(mark) - 1, len(text)), 0, -1) if text.endswith(mark[:size])), 0
    )
