"""What an answer depends on, and the keys that follow from it. Knows no store.

A key is SHA-256 over canonical JSON, in which no two different lists of fields look alike, so that nothing a
sender writes into one field can pass for another field.
"""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

RAW_ROLE = "prompt"
"""The role of a text that a model continues as it stands; of all others outer line ends do not count."""
_FORMAT = "heliostat-answer-1"
_WITHOUT_MEANING_AT_TEMPERATURE_0 = ("seed", "top_p", "top_k", "min_p")


class Turn(NamedTuple):
    """One message: its role and all that it says (calls of tools as JSON)."""

    role: str
    text: str


@dataclass(frozen=True)
class Question:
    """A request, as far as its answer depends on it; `turns` has all messages but the system prompt.

    `version` and `adapter` name the artifacts and the engine config, not labels that may be moved.
    `parameters` is canonical JSON of everything else that the request says (sampling, tools, stop strings,
    response format).
    """

    tenant: str
    model: str
    version: str
    adapter: str | None
    system_prompt: str
    parameters: str
    filter_version: str
    turns: tuple[Turn, ...]
    deterministic: bool

    @classmethod
    def of(
        cls,
        place: "Place",
        turns: list[tuple[str, str]],
        parameters: Mapping[str, Any],
        system_prompt: str = "",
        filter_version: str = "",
    ) -> Self:
        """A question with its texts and parameters normalised.

        At temperature 0 the likeliest token is taken, whatever the seed and the share of others kept.

        Raises:
            TypeError: a parameter has no JSON form.
        """
        known = dict(parameters)
        deterministic = known.get("temperature") == 0
        if deterministic and known.get("logprobs") is None:
            for name in _WITHOUT_MEANING_AT_TEMPERATURE_0:
                known.pop(name, None)
        return cls(
            place.tenant,
            place.model,
            place.version,
            place.adapter,
            _normalised("system", system_prompt),
            canonical_json(known),
            filter_version,
            tuple(Turn(role, _normalised(role, text)) for role, text in turns),
            deterministic,
        )

    @property
    def num_chars(self) -> int:
        """The length of all its texts."""
        return len(self.system_prompt) + sum(len(turn.text) for turn in self.turns)

    @cached_property
    def scope(self) -> str:
        """The key of all questions that may share answers if their conversations do."""
        fields = (
            self.tenant,
            self.model,
            self.version,
            self.adapter,
            self.system_prompt,
            self.parameters,
            self.filter_version,
        )
        return _digest([_FORMAT, *fields])

    @cached_property
    def key(self) -> str:
        """The key of this very question."""
        return _digest([self.scope, "whole", self.turns])

    @cached_property
    def history_scope(self) -> str:
        """The key of all questions that differ in nothing but the last turn's text."""
        last_role = self.turns[-1].role if self.turns else ""
        return _digest([self.scope, "last", self.turns[:-1], last_role])

    @property
    def last_user_text(self) -> str | None:
        """What the user asks last; None when the conversation does not end with the user."""
        return self.turns[-1].text if self.turns and self.turns[-1].role == "user" else None


class Place(NamedTuple):
    """Whose question it is, and what of the cluster is to answer it."""

    tenant: str
    model: str
    version: str
    adapter: str | None = None


def canonical_json(value: Any) -> str:
    """One text for each value, whatever the order of its keys.

    Raises:
        TypeError: it has no JSON form.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _digest(value: list[Any]) -> str:
    # Escaping would write a pair of lone surrogates as it writes the character that they make up.
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def _normalised(role: str, text: str) -> str:
    """The text with one kind of line end and one form of accented letters.

    Indentation stays, as it may be the question.
    """
    if role == RAW_ROLE:
        return text
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    return text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\n").rstrip()
