"""Whether two conversations that read alike also answer alike.

A long question with another answer is another example: it must not go for the words that both share.
"""

import json
from collections.abc import Sequence

import numpy as np

from heliostat.data.dedup_config import NearDedupStep
from heliostat.data.documents import Document
from heliostat.data.near_dedup import Mask, alike, compare_texts
from heliostat.data.shingles import I64
from heliostat.text.chat import Message
from heliostat.text.normalise import comparison_key


def same_answers(documents: Sequence[Document], pairs: I64, config: NearDedupStep) -> Mask:
    """(m,) bool: for each pair of positions in `documents`, whether what is learned from them is alike.

    That is the answers, the rejected ones, each beside its own kind, and the tools, which have to be equal.
    Answers are alike when they say the same or their texts are near-duplicates. Plain texts always are.
    """
    same = np.ones(len(pairs), dtype=np.bool_)
    chats = np.array([bool(document.messages) for document in documents], dtype=np.bool_)
    which = np.flatnonzero(chats[pairs].any(axis=1))
    if not len(which):
        return same
    tools = [json.dumps(document.tools, sort_keys=True) for document in documents]
    agree = _equal(tools, pairs[which])
    for part in (_chosen, _rejected):
        agree &= _agree([part(document) for document in documents], pairs[which], config)
    same[which] = agree
    return same


def _equal(values: Sequence[object], pairs: I64) -> Mask:
    return np.array([values[first] == values[second] for first, second in pairs.tolist()], dtype=np.bool_)


def _agree(texts: Sequence[str], pairs: I64, config: NearDedupStep) -> Mask:
    agree = _equal([comparison_key([text]) for text in texts], pairs)
    apart = np.flatnonzero(~agree)
    if len(apart):
        compared = compare_texts(texts, pairs[apart], config)
        agree[apart] = alike(compared, config) & (compared["same_numbers"] | (not config.same_numbers))
    return agree


def _chosen(document: Document) -> str:
    return _answers(document.messages) if document.messages else document.text


def _rejected(document: Document) -> str:
    return _answers(document.rejected)


def _answers(messages: Sequence[Message]) -> str:
    """What the assistant says and calls."""
    said = [message for message in messages if message["role"] == "assistant"]
    calls = (json.dumps(message.get("tool_calls") or [], sort_keys=True) for message in said)
    return "\n\n".join(f"{message['content']}\n{call}" for message, call in zip(said, calls, strict=True))
