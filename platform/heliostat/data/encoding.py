"""From documents to token ids with loss masks, and to pieces that fit a sequence.

Conversations are rendered as everywhere (`heliostat.text.chat`), with loss on the answers. Plain text ends
with the end-of-sequence token, with loss on all of it. A preference pair becomes two conversations, laid end
to end, with loss on what follows the prompt that both share.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from heliostat.data.config import TokenizeConfig
from heliostat.data.documents import Document, Dropped
from heliostat.data.windows import mask_in, windows_over
from heliostat.models.fast_tokenizer import FastEncoder
from heliostat.text.chat import Message, TemplateError, render_conversation, render_prompt

STEP = "tokenize"


@dataclass(frozen=True)
class Encoded:
    """Token ids (int32) of a document or of a piece of one, and which the model learns (1, else 0).

    Of a preference pair the chosen conversation comes first, and the rejected one begins at `rejected_at`.
    """

    uid: str
    input_ids: np.ndarray
    loss_mask: np.ndarray
    rejected_at: int = 0

    @property
    def halves(self) -> "tuple[Encoded, Encoded]":
        """The two conversations of a preference pair."""
        at = self.rejected_at
        return (
            Encoded(self.uid, self.input_ids[:at], self.loss_mask[:at]),
            Encoded(self.uid, self.input_ids[at:], self.loss_mask[at:]),
        )

    @property
    def teaches(self) -> bool:
        """Whether a token behind the first is learned; nothing stands in front of the first."""
        return bool(self.loss_mask[1:].any())


class Encoder:
    """A model's tokenizer at work: plain text the fast way, conversations through the chat template."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._fast = FastEncoder.of(tokenizer)
        ending = tokenizer.eos_token_id
        self._ending = np.array([] if ending is None else [ending], dtype=np.int32)

    def encode(self, documents: Sequence[Document]) -> list[Encoded | Dropped]:
        """Each document encoded, or dropped because the chat template refuses it; in the same order."""
        plain = self._fast.encode_batch([document.text for document in documents if not document.messages])
        rest = iter(plain)
        return [
            self._conversation(document) if document.messages else self._plain(document, next(rest))
            for document in documents
        ]

    def count_tokens(self, documents: Sequence[Document]) -> list[int]:
        """The tokens each document has.

        A conversation that the template refuses counts with the tokens of its messages.
        """
        return [
            len(encoded.input_ids) if isinstance(encoded, Encoded) else self._tokens_in(document.contents)
            for document, encoded in zip(documents, self.encode(documents), strict=True)
        ]

    def _plain(self, document: Document, ids: np.ndarray) -> Encoded:
        ids = np.concatenate([ids, self._ending])
        return Encoded(document.uid, ids, np.ones(len(ids), dtype=np.int8))

    def _conversation(self, document: Document) -> Encoded | Dropped:
        try:
            if document.rejected:
                return self._pair(document)
            return self._rendered(document, document.messages)
        except TemplateError as error:
            return Dropped(document, STEP, "template_refused", str(error))

    def _rendered(self, document: Document, messages: Sequence[Message]) -> Encoded:
        rendered = render_conversation(messages, self.tokenizer, document.tools)
        ids = np.array(rendered.input_ids, dtype=np.int32)
        return Encoded(document.uid, ids, np.array(rendered.loss_mask, dtype=np.int8))

    def _pair(self, document: Document) -> Encoded | Dropped:
        if not document.prompt:
            return Dropped(document, STEP, "no_prompt", "cleaned by an older version: clean again (--force)")
        shared = len(render_prompt(document.prompt, self.tokenizer, document.tools))
        chosen = self._rendered(document, document.messages)
        rejected = self._rendered(document, (*document.prompt, *document.rejected))
        for half in (chosen, rejected):
            half.loss_mask[:shared] = 0  # earlier answers in the prompt say nothing of these two
        return join(chosen, rejected)

    def _tokens_in(self, texts: list[str]) -> int:
        return sum(map(len, self._fast.encode_batch(texts)))


def join(chosen: Encoded, rejected: Encoded) -> Encoded:
    """The preference pair of two conversations."""
    return replace(
        chosen,
        input_ids=np.concatenate([chosen.input_ids, rejected.input_ids]),
        loss_mask=np.concatenate([chosen.loss_mask, rejected.loss_mask]),
        rejected_at=len(chosen.input_ids),
    )


@dataclass(frozen=True)
class Fitted:
    """What a document became: pieces, each at most `max_sequence_length` long, or the reason for none."""

    pieces: tuple[Encoded, ...]
    truncated_tokens: int = 0
    repeated_tokens: int = 0
    reason: str | None = None


def fit(encoded: Encoded, is_conversation: bool, config: TokenizeConfig) -> Fitted:
    """Cut plain text into pieces or windows; drop or truncate a conversation that is too long.

    Each conversation of a preference pair has `max_sequence_length` to itself.
    """
    if encoded.rejected_at:
        return _fit_pair(encoded, config)
    limit, length = config.max_sequence_length, len(encoded.input_ids)
    if length <= limit:
        return Fitted((encoded,)) if encoded.teaches else Fitted((), reason="nothing_to_learn")
    if not is_conversation:
        windows = windows_over(length, limit, config.window_stride)
        pieces = tuple(
            Encoded(encoded.uid, encoded.input_ids[each.start : each.end], mask_in(encoded.loss_mask, each))
            for each in windows
        )
        return Fitted(pieces, repeated_tokens=sum(each.num_repeated_tokens for each in windows))
    if config.too_long == "drop":
        return Fitted((), reason="over_max_sequence_length")
    shortened = Encoded(encoded.uid, encoded.input_ids[:limit], encoded.loss_mask[:limit])
    if not shortened.teaches:
        return Fitted((), reason="answer_beyond_max_sequence_length")
    return Fitted((shortened,), truncated_tokens=length - limit)


def _fit_pair(pair: Encoded, config: TokenizeConfig) -> Fitted:
    fitted = [fit(half, True, config) for half in pair.halves]
    reason = next((each.reason for each in fitted if each.reason), None)
    if reason:
        return Fitted((), reason=reason)
    chosen, rejected = (each.pieces[0] for each in fitted)
    if np.array_equal(chosen.input_ids, rejected.input_ids):  # by the template, or where both are cut off
        return Fitted((), reason="same_answers")
    return Fitted((join(chosen, rejected),), truncated_tokens=sum(each.truncated_tokens for each in fitted))


def runs_of(encoded: Encoded, tokenizer: Any, limit: int = 1500) -> list[tuple[str, bool]]:
    """At most `limit` tokens as readable text, cut where learning starts and stops: (text, is it learned)."""
    ids, mask = encoded.input_ids[:limit], encoded.loss_mask[:limit]
    borders = [0, *(np.flatnonzero(np.diff(mask)) + 1).tolist(), len(ids)]
    return [
        (str(tokenizer.decode(ids[start:end].tolist())), bool(mask[start]))
        for start, end in itertools.pairwise(borders)
        if end > start
    ]
