"""From documents to token ids with loss masks, and to pieces that fit a sequence.

Conversations are rendered as everywhere (`heliostat.text.chat`), with loss on the answers. Plain text ends
with the end-of-sequence token, with loss on all of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from heliostat.data.config import TokenizeConfig
from heliostat.data.documents import READ_STEP, Document, Dropped, Outcome
from heliostat.text.chat import TemplateError, render_conversation

STEP = "tokenize"
TEXTS_PER_BATCH = 256


@dataclass(frozen=True)
class Encoded:
    """Token ids of a document or of a piece of one, and which of them the model learns (1) or reads (0)."""

    uid: str
    input_ids: Sequence[int]
    loss_mask: Sequence[int]

    def cut(self, start: int, end: int) -> "Encoded":
        """Its tokens from `start` to below `end`."""
        return Encoded(self.uid, self.input_ids[start:end], self.loss_mask[start:end])

    @property
    def teaches(self) -> bool:
        """Whether a token behind the first is learned; nothing stands in front of the first."""
        return any(self.loss_mask[1:])


def encode_documents(documents: Sequence[Document], tokenizer: Any) -> list[Encoded | Dropped]:
    """Each document encoded, or dropped because the chat template refuses it; in the same order."""
    plain = [document for document in documents if not document.messages]
    encoded: dict[str, Encoded | Dropped] = {}
    ending = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    for start in range(0, len(plain), TEXTS_PER_BATCH):
        batch = plain[start : start + TEXTS_PER_BATCH]
        texts = [document.text for document in batch]
        for document, ids in zip(batch, tokenizer(texts, add_special_tokens=False)["input_ids"], strict=True):
            ids = [*ids, *ending]
            encoded[document.uid] = Encoded(document.uid, ids, [1] * len(ids))
    for document in documents:
        if document.messages:
            encoded[document.uid] = _encode_conversation(document, tokenizer)
    return [encoded[document.uid] for document in documents]


def _encode_conversation(document: Document, tokenizer: Any) -> Encoded | Dropped:
    try:
        rendered = render_conversation(document.messages, tokenizer)
    except TemplateError as error:
        return Dropped(document, STEP, "template_refused", str(error))
    return Encoded(document.uid, rendered.input_ids, rendered.loss_mask)


def count_tokens(outcomes: Sequence[Outcome], tokenizer: Any) -> list[int]:
    """The tokens each document has, dropped or not; 0 for a row that never became a document.

    A conversation that the template refuses counts with the tokens of its messages.
    """
    counted = [
        outcome.document if isinstance(outcome, Dropped) else outcome
        for outcome in outcomes
        if not (isinstance(outcome, Dropped) and outcome.step == READ_STEP)
    ]
    lengths = {
        document.uid: _tokens_in(document, encoded, tokenizer)
        for document, encoded in zip(counted, encode_documents(counted, tokenizer), strict=True)
    }
    uids = [outcome.document.uid if isinstance(outcome, Dropped) else outcome.uid for outcome in outcomes]
    return [lengths.get(uid, 0) for uid in uids]


def _tokens_in(document: Document, encoded: Encoded | Dropped, tokenizer: Any) -> int:
    if isinstance(encoded, Encoded):
        return len(encoded.input_ids)
    return sum(len(ids) for ids in tokenizer(document.contents, add_special_tokens=False)["input_ids"])


@dataclass(frozen=True)
class Fitted:
    """What a document became: pieces, each at most `max_sequence_length` long, or the reason for none."""

    pieces: tuple[Encoded, ...]
    truncated_tokens: int = 0
    reason: str | None = None


def fit(encoded: Encoded, is_conversation: bool, config: TokenizeConfig) -> Fitted:
    """Cut plain text into pieces; drop or truncate a conversation that is too long."""
    limit, length = config.max_sequence_length, len(encoded.input_ids)
    if length <= limit:
        return Fitted((encoded,)) if encoded.teaches else Fitted((), reason="nothing_to_learn")
    if not is_conversation:
        return Fitted(tuple(encoded.cut(start, start + limit) for start in range(0, length, limit)))
    if config.too_long == "drop":
        return Fitted((), reason="over_max_sequence_length")
    shortened = encoded.cut(0, limit)
    if not shortened.teaches:
        return Fitted((), reason="answer_beyond_max_sequence_length")
    return Fitted((shortened,), truncated_tokens=length - limit)


def runs_of(encoded: Encoded, tokenizer: Any, limit: int = 1500) -> list[tuple[str, bool]]:
    """At most `limit` tokens as readable text, cut where learning starts and stops: (text, is it learned)."""
    borders = [0]
    ids, mask = encoded.input_ids[:limit], encoded.loss_mask[:limit]
    borders += [at for at in range(1, len(ids)) if mask[at] != mask[at - 1]]
    spans: Iterable[tuple[int, int]] = zip(borders, [*borders[1:], len(ids)], strict=True)
    return [(str(tokenizer.decode(ids[start:end])), bool(mask[start])) for start, end in spans if end > start]
