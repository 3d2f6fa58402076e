"""From streamed token ids to text that can be shown: no broken characters, nothing behind a stop string."""

from collections.abc import Sequence
from typing import Protocol

# An incomplete UTF-8 character has at most 3 bytes, so 3 tokens; what is broken before them stays so.
MAX_INCOMPLETE_TOKENS = 3
MAX_HELD_TOKENS = 8
BROKEN = "\N{REPLACEMENT CHARACTER}"


class Decoder(Protocol):
    """The part of a transformers tokenizer that turns ids into text."""

    def decode(self, token_ids: list[int], **options: bool) -> str:
        """Turn ids into text."""


class Detokenizer:
    """One answer's text, token by token. The pieces together are what decoding all ids at once gives.

    Each step decodes the last piece's ids and the new ones, and keeps what came in addition: some decoders
    join, or strip a space, depending on the neighbour. A piece that ends inside a character waits for more.
    """

    def __init__(self, tokenizer: Decoder, hidden_ids: frozenset[int] = frozenset()) -> None:
        """`hidden_ids` are left out, beside the tokenizer's special tokens."""
        self._tokenizer = tokenizer
        self._hidden_ids = hidden_ids
        self._context: list[int] = []
        self._held: list[int] = []

    def push(self, token_ids: Sequence[int]) -> str:
        """The text that is certain now; "" while a character is incomplete."""
        return "".join(self._push_one(token) for token in token_ids if token not in self._hidden_ids)

    def flush(self) -> str:
        """What is left at the end, broken characters included."""
        return self._release(len(self._held))

    def _push_one(self, token: int) -> str:
        self._held.append(token)
        if not self._new_text(len(self._held)).endswith(BROKEN):
            return self._release(len(self._held))
        if len(self._held) > MAX_HELD_TOKENS:
            return self._release(len(self._held) - MAX_INCOMPLETE_TOKENS)
        return ""

    def _new_text(self, count: int) -> str:
        """What the first `count` held tokens add."""
        known = self._decode(self._context)
        return self._decode(self._context + self._held[:count])[len(known) :]

    def _release(self, count: int) -> str:
        text = self._new_text(count)
        if text:  # ids without text (special tokens) stay: alone they are no context to strip against
            self._context, self._held = self._held[:count], self._held[count:]
        return text

    def _decode(self, token_ids: list[int]) -> str:
        if not token_ids:
            return ""
        return self._tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


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
        keep = max(_overlap(self._held, stop) for stop in self._stops)
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def flush(self) -> str:
        """What was held back for a stop string that never came."""
        shown, self._held = self._held, ""
        return shown


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that is a beginning of `stop`."""
    return next(
        (size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0
    )
