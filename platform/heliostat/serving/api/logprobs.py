"""Logprobs in OpenAI's two shapes, given out with the text they belong to."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heliostat.serving.api.vocabulary import vocabulary_of
from heliostat.serving.engines.interface import TokenLogprob

LOWEST = -9999.0
"""OpenAI's figure for a probability too small to tell; JSON has no minus infinity."""


@dataclass(frozen=True, slots=True)
class LogprobEntry:
    """A token of the answer: its text, bytes and logprob, the likeliest others, where its text begins."""

    token: str
    spelled: bytes
    logprob: float
    top: tuple[tuple[str, bytes, float], ...]
    offset: int


class PendingLogprobs:
    """Holds entries back until their text is shown: what a stop string cuts off has none.

    Works on text as it comes from the model; where a filter changes it there are no logprobs.
    """

    def __init__(self, tokenizer: Any, hidden_ids: frozenset[int]) -> None:
        self._vocabulary = vocabulary_of(tokenizer)
        self._hidden_ids = hidden_ids | self._vocabulary.special
        self._entries: deque[tuple[int, LogprobEntry]] = deque()
        self._read = 0
        self._shown = 0

    def add(self, token: int, found: TokenLogprob, num_characters: int) -> None:
        """A token that added `num_characters` to the answer; special ones are no part of its text."""
        begin, self._read = self._read, self._read + num_characters
        if token in self._hidden_ids:
            return
        top = tuple((*self._spell(other), max(logprob, LOWEST)) for other, logprob in found.top)
        entry = LogprobEntry(*self._spell(token), max(found.logprob, LOWEST), top, begin)
        self._entries.append((self._read, entry))

    def take(self, num_characters: int, ended: bool) -> tuple[LogprobEntry, ...]:
        """The entries whose text is shown once that many more characters are.

        At the end also those of a character that stayed incomplete and of a token that was cut inside.
        """
        self._shown += num_characters
        taken = []
        while self._entries and (
            self._entries[0][0] <= self._shown or (ended and self._entries[0][1].offset < self._shown)
        ):
            taken.append(self._entries.popleft()[1])
        return tuple(taken)

    def _spell(self, token: int) -> tuple[str, bytes]:
        return self._vocabulary.name_of(token), self._vocabulary.bytes_of(token)


def chat_logprobs(entries: Sequence[LogprobEntry]) -> dict[str, Any]:
    """The shape of chat completions."""
    content = [
        {
            "token": entry.token,
            "logprob": entry.logprob,
            "bytes": list(entry.spelled),
            "top_logprobs": [
                {"token": token, "logprob": logprob, "bytes": list(spelled)}
                for token, spelled, logprob in entry.top
            ],
        }
        for entry in entries
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(entries: Sequence[LogprobEntry], start: int = 0) -> dict[str, Any]:
    """The shape of completions; `start` is how many characters an echo has in front of the answer."""
    return {
        "tokens": [entry.token for entry in entries],
        "token_logprobs": [entry.logprob for entry in entries],
        "top_logprobs": [{token: logprob for token, _, logprob in entry.top} for entry in entries],
        "text_offset": [start + entry.offset for entry in entries],
    }
