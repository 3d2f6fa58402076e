"""An OpenVINO folder that computes, one row at a time, each from an empty cache."""

import time
from pathlib import Path

import numpy as np

from heliostat.evaluation.engine import LONGEST, Stop, Written
from heliostat.evaluation.windows import Pair
from heliostat.models.loading import load_tokenizer
from heliostat.models.perplexity import (
    DocumentLoss,
    exported_logits,
    exported_losses,
    log_likelihoods,
    open_exported,
)
from heliostat.tokenized import PackedSequence


class OpenvinoEngine:
    """A compiled model whose state is its cache; float32 arithmetic over its weights."""

    def __init__(self, folder: Path, num_threads: int) -> None:
        """Load it.

        Raises:
            ModelError: it cannot be loaded.
        """
        self._request = open_exported(folder, num_threads)
        end = load_tokenizer(folder).eos_token_id
        self.end_ids: tuple[int, ...] = () if end is None else (int(end),)
        self.max_length = LONGEST

    def score(self, pairs: list[Pair]) -> list[tuple[float, bool]]:
        """Of each continuation its log-likelihood in nats, and whether it is what greedy search writes."""
        return [self._score(each) for each in pairs]

    def _score(self, pair: Pair) -> tuple[float, bool]:
        ids = np.array(pair.context + pair.continuation)
        self._request.reset_state()
        logits = exported_logits(self._request, ids[:-1], 0)[len(pair.context) - 1 :]
        labels = ids[len(pair.context) :]
        greedy = bool((logits.argmax(axis=-1) == labels).all())
        return float(log_likelihoods(logits, labels).sum()), greedy

    def write(self, prompts: list[list[int]], max_new_tokens: int, stop: Stop) -> list[Written]:
        """Continue each prompt greedily."""
        return [self._write(each, max_new_tokens, stop) for each in prompts]

    def _write(self, prompt: list[int], max_new_tokens: int, stop: Stop) -> Written:
        started = time.monotonic()
        self._request.reset_state()
        ids: list[int] = []
        unread, first = prompt, 0.0
        while len(ids) < max_new_tokens:
            done = len(prompt) + len(ids) - len(unread)
            ids.append(int(exported_logits(self._request, np.array(unread), done)[-1].argmax()))
            first = first or time.monotonic() - started
            if ids[-1] in self.end_ids or stop(ids):
                break
            unread = ids[-1:]
        return Written(ids, first, time.monotonic() - started)

    def read(self, sequences: list[PackedSequence]) -> list[list[DocumentLoss]]:
        """The losses of each packed row's documents."""
        return [exported_losses(self._request, each) for each in sequences]
