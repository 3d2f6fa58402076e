"""Scoring and sampling a model in the middle of its training. Knows objectives, and nothing of Ray."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from heliostat.models.adapters import ADAPTER_WEIGHTS_NAME
from heliostat.models.loading import load_tokenizer
from heliostat.tokenized import PackedSequence, TokenizedDataset
from heliostat.training.objective_config import NEXT_TOKEN
from heliostat.training.objectives.interface import Objective
from heliostat.training.objectives.selection import ObjectiveInputs, Prepared, prepare
from heliostat.training.validation_config import ValidationConfig


@dataclass(frozen=True)
class Sample:
    """What a model writes behind a held-out prompt, beside what stands there."""

    document_id: str
    prompt: str
    written: str
    expected: str


def load_trained(inputs: ObjectiveInputs, trained: Path) -> Prepared:
    """The model with what was trained so far, and its objective."""
    weights = trained / ADAPTER_WEIGHTS_NAME
    if not weights.exists():
        return prepare(replace(inputs, base_folder=trained, reference_folder=inputs.base_folder))
    from peft import set_peft_model_state_dict

    prepared = prepare(inputs)
    set_peft_model_state_dict(prepared.model, load_file(weights))
    return prepared


def held_out_metrics(prepared: Prepared, config: ValidationConfig, micro_batch_size: int) -> dict[str, float]:
    """`validation_loss` and the objective's other figures, over the split's first sequences."""
    held_out = HeldOut(prepared.objective.for_split(config.split), config.max_sequences, micro_batch_size)
    return held_out.metrics(prepared.model, "cpu")


class HeldOut:
    """The first sequences of a split, scored by one process or in equal turns by several replicas."""

    def __init__(
        self, objective: Objective, max_sequences: int, micro_batch_size: int, share: tuple[int, int] = (0, 1)
    ) -> None:
        """`objective` is over the split already; `share` is the number of this replica and of all."""
        self._objective = objective
        self._positions = list(range(min(len(objective), max_sequences)))
        self._size = micro_batch_size
        self._replica, self._replicas = share

    def metrics(
        self, model: Any, device: Any, over_workers: Callable[[torch.Tensor], object] | None = None
    ) -> dict[str, float]:
        """`validation_loss` and the objective's other figures, the same on every worker.

        `over_workers` takes the mean of a float64 tensor over all workers, in place; all have to call. Each
        makes as many passes as the others: who shares weights with them waits for theirs.
        """
        batches = [
            self._positions[start : start + self._size]
            for start in range(0, len(self._positions), self._size)
        ]
        sums: dict[str, float] = {}
        model.eval()
        with torch.no_grad():
            for turn in range(-(-len(batches) // self._replicas)):
                mine = turn * self._replicas + self._replica
                loss = self._objective.loss(model, batches[min(mine, len(batches) - 1)], device)
                for name, value in {"loss": loss.summed, **loss.metrics}.items():
                    sums[name] = sums.get(name, 0.0) + (float(value) if mine < len(batches) else 0.0)
        model.train()
        summed = torch.tensor(list(sums.values()), dtype=torch.float64, device=device)
        if over_workers is not None:
            over_workers(summed)  # a mean over workers is one over replicas, whatever each consists of
        weight = self._objective.weight(self._positions)
        values = (summed * self._replicas / weight).tolist()
        return {f"validation_{name}": value for name, value in zip(sums, values, strict=True)}


def samples(prepared: Prepared, inputs: ObjectiveInputs, config: ValidationConfig) -> Iterator[Sample]:
    """Greedy continuations of the split's first documents, from where their first learned token stands."""
    if not isinstance(inputs.config.objective, NEXT_TOKEN):
        return
    dataset = TokenizedDataset(inputs.dataset_folder, config.split)
    tokenizer = load_tokenizer(inputs.base_folder)
    prepared.model.eval()
    for position in range(min(config.num_samples, len(dataset))):
        document = dataset[position].documents()[0]
        prompt = document.input_ids[: _prompt_length(document)]
        expected = document.input_ids[len(prompt) : len(prompt) + config.sample_tokens]
        yield Sample(
            document.document_ids[0],
            tokenizer.decode(prompt.tolist()),
            tokenizer.decode(_continue(prepared.model, prompt.tolist(), config.sample_tokens)),
            tokenizer.decode(expected.tolist()),
        )


def _prompt_length(document: PackedSequence) -> int:
    """What stands in front of the first learned token; of a text that is learned whole, its first tokens."""
    learned = document.loss_mask.nonzero()[0]
    first = int(learned[0]) if len(learned) else len(document.input_ids)
    return first if first > 1 else min(8, len(document.input_ids))


def _continue(model: Any, ids: list[int], most: int) -> list[int]:
    """Greedy decoding."""
    tokens = torch.tensor([ids])
    with torch.no_grad():
        written = model.generate(
            input_ids=tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=most, do_sample=False
        )
    return [int(token) for token in written[0][len(ids) :]]
