"""Texts and pairs as tokens, cut as lm-evaluation-harness cuts them, so that both say the same. Pure."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """`continuation` is scored behind `context`; neither is empty."""

    context: list[int]
    continuation: list[int]


def encode_pair(encode: Callable[[str], list[int]], context: str, continuation: str) -> Pair:
    """Both as ids: encoded together, so that tokens may not meet at the border, and cut behind the context's.

    Spaces at the context's end go to the continuation, as tokenizers have them in front of words.
    """
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    whole, start = encode(stripped + continuation), encode(stripped)
    return Pair(start, whole[len(start) :])


def within(pair: Pair, max_length: int, prefix_id: int) -> Pair:
    """The pair as a model of `max_length` positions can read it: cut at the left, never without a context.

    The last token is only predicted, so one more than `max_length` fits.
    """
    context = pair.context or [prefix_id]
    ids = (context + pair.continuation)[-(max_length + 1) :]
    keep = min(len(pair.continuation), len(ids) - 1)
    return Pair(ids[: len(ids) - keep], ids[len(ids) - keep :])


def rolling_windows(ids: list[int], prefix_id: int, max_length: int) -> Iterator[Pair]:
    """A text as pairs in which every token is scored once.

    The first window begins at the text's beginning, behind `prefix_id`; each further one scores the next
    `max_length` tokens, and the last one, which may be short, reads as much before them as fits. As
    lm-evaluation-harness's `get_rolling_token_windows` with a context of one.
    """
    first = min(max_length, len(ids))
    if first:
        yield Pair([prefix_id], ids[:first])
    done = first
    while done < len(ids):
        count = min(len(ids) - done, max_length)
        end = done + count
        yield Pair(ids[end - max_length - 1 : done], ids[done:end])
        done = end
