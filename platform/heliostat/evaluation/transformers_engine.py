"""A transformers folder that computes: likelihoods in batches padded right, text in ones padded left."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from heliostat.evaluation.engine import LONGEST, Stop, Written
from heliostat.evaluation.windows import Pair
from heliostat.models.perplexity import DocumentLoss, packed_losses
from heliostat.tokenized import PackedSequence, collate


class TransformersEngine:
    """A causal language model in float32; on a GPU where the task was given one."""

    def __init__(self, folder: Path, num_threads: int) -> None:
        """Load it.

        Raises:
            ModelError: it cannot be loaded.
        """
        import torch

        from heliostat.models.loading import load_model

        torch.set_num_threads(num_threads)
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = load_model(folder).eval().to(self._device)
        config = self._model.config
        self.max_length = int(getattr(config, "max_position_embeddings", None) or LONGEST)
        ends = self._model.generation_config.eos_token_id
        ends = config.eos_token_id if ends is None else ends
        self.end_ids: tuple[int, ...] = (
            tuple(ends) if isinstance(ends, list) else () if ends is None else (int(ends),)
        )
        self._padding_id = config.pad_token_id or 0

    def score(self, pairs: list[Pair]) -> list[tuple[float, bool]]:
        """Of each continuation its log-likelihood in nats, and whether it is what greedy search writes."""
        import torch

        from heliostat.models.scoring import label_losses, labelled_logits, to_tensors

        batch = to_tensors(collate([_as_sequence(each) for each in pairs], self._padding_id), self._device)
        with torch.inference_mode():
            logits, labels = labelled_logits(self._model, batch)
            likelihoods = -label_losses(logits, labels).double().sum(dim=1)
            greedy = ((logits.argmax(dim=-1) == labels) | (labels < 0)).all(dim=1)
        return list(zip(likelihoods.tolist(), greedy.tolist(), strict=True))

    def write(self, prompts: list[list[int]], max_new_tokens: int, stop: Stop) -> list[Written]:
        """Continue each prompt greedily; the seconds are those of the whole batch."""
        import torch
        from transformers import GenerationConfig

        longest = max(len(each) for each in prompts)
        padded = [[self._padding_id] * (longest - len(each)) + each for each in prompts]
        mask = [[0] * (longest - len(each)) + [1] * len(each) for each in prompts]
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=max_new_tokens,
            eos_token_id=list(self.end_ids) or None,
            pad_token_id=self._padding_id,
        )
        watch = _Watch(longest, stop)
        with torch.inference_mode():
            made = self._model.generate(
                torch.tensor(padded, device=self._device),
                attention_mask=torch.tensor(mask, device=self._device),
                generation_config=settings,
                stopping_criteria=[watch],
            )
        ended = time.monotonic()
        first = (watch.first_at or ended) - watch.started
        rows = made[:, longest:].tolist()
        return [
            Written(_up_to_end(row, self.end_ids, watch.lengths.get(at)), first, ended - watch.started)
            for at, row in enumerate(rows)
        ]

    def read(self, sequences: list[PackedSequence]) -> list[list[DocumentLoss]]:
        """The losses of each packed row's documents."""
        return packed_losses(self._model, sequences, self._padding_id, self._device)


class _Watch:
    """Told after each token: ends the rows that are to end, and notes when the first token came."""

    def __init__(self, prompt_length: int, stop: Stop) -> None:
        self.started = time.monotonic()
        self.first_at: float | None = None
        self.lengths: dict[int, int] = {}
        self._prompt_length = prompt_length
        self._stop = stop

    def __call__(self, input_ids: Any, scores: Any, **options: Any) -> Any:
        import torch

        self.first_at = self.first_at or time.monotonic()
        for at, row in enumerate(input_ids[:, self._prompt_length :].tolist()):
            if at not in self.lengths and self._stop(row):
                self.lengths[at] = len(row)
        return torch.tensor([at in self.lengths for at in range(len(input_ids))], device=input_ids.device)


def _up_to_end(row: list[int], end_ids: tuple[int, ...], length: int | None) -> list[int]:
    """A row without the padding behind its end."""
    row = row[:length]
    ends = [row.index(each) for each in end_ids if each in row]
    return row[: min(ends) + 1] if ends else row


def _as_sequence(pair: Pair) -> PackedSequence:
    ids = np.array(pair.context + pair.continuation, dtype=np.int64)
    mask = np.zeros(len(ids), dtype=np.int8)
    mask[len(pair.context) :] = 1
    return PackedSequence(ids, mask, (len(ids),), ("",))
