"""Pure arithmetic of a run: which sequences each step trains on, and at which learning rate and decay.

All are functions of the step alone, so a resumed run needs nothing but the step to go on exactly.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from heliostat.training.config import TrainConfig

DEFAULT_EPOCHS = 1.0


def num_steps(config: TrainConfig, num_sequences: int) -> int:
    """Optimizer steps of the run: `max_steps`, or enough for `num_epochs` (one epoch when neither is given).

    An epoch that is no whole number of global batches is rounded up; the last batch is filled from the next
    epoch's order, so no sequence is left out.
    """
    if config.max_steps is not None:
        return config.max_steps
    return math.ceil((config.num_epochs or DEFAULT_EPOCHS) * num_sequences / config.sequences_per_step)


def batch_positions(step: int, num_sequences: int, global_batch_size: int, seed: int) -> list[int]:
    """Dataset positions of the sequences in one step's global batch, the same for every number of workers.

    The run reads one endless stream: a new permutation of the dataset for each epoch.
    """
    first = step * global_batch_size
    stream = range(first, first + global_batch_size)
    return [int(_permutation(at // num_sequences, num_sequences, seed)[at % num_sequences]) for at in stream]


def share_of(positions: list[int], config: TrainConfig, replica: int, num_workers: int) -> list[list[int]]:
    """One replica's micro batches of a global batch, as many as every other replica has.

    Where the global batch does not divide, the last ones of some replicas are short or empty.
    """
    size, count = config.micro_batch_size, config.micro_batches(num_workers)
    mine = positions[replica * count * size : (replica + 1) * count * size]
    return [mine[start * size : (start + 1) * size] for start in range(count)]


@dataclass(frozen=True)
class Rates:
    """What the optimizer is told for a step."""

    learning_rate: float
    weight_decay: float


def rates_at(step: int, config: TrainConfig, steps: int) -> Rates:
    """The rates of a step, counted from 0, with the changes behind the steps before it.

    The learning rate warms up linearly over `warmup_ratio` of the run and then follows a cosine from its peak
    down to that times the minimum ratio. A change sets another peak, as if it had been so all along.
    """
    peak, weight_decay = config.learning_rate, config.weight_decay
    for change in config.changes:
        if change.after_step <= step:
            peak = change.learning_rate or peak
            weight_decay = weight_decay if change.weight_decay is None else change.weight_decay
    return Rates(peak * _share_of_peak(step, config, steps), weight_decay)


def _share_of_peak(step: int, config: TrainConfig, steps: int) -> float:
    warmup = round(config.warmup_ratio * steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - 1 - warmup)
    low = config.min_learning_rate_ratio
    return low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@lru_cache(maxsize=2)
def _permutation(epoch: int, num_sequences: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(num_sequences)
