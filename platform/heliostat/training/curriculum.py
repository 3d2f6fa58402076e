"""Which sequences each step trains on when easy ones come first. Pure: knows numpy, not torch or Ray.

The whole order is a function of the config, the dataset and the run's length, laid down before the first
step. So a resumed run needs nothing but the step, and every number of workers reads the same.
"""

import math
from collections.abc import Iterable

import numpy as np

from heliostat.tokenized import PackedSequence
from heliostat.training.curriculum_config import CurriculumConfig


def difficulties(config: CurriculumConfig, sequences: Iterable[PackedSequence]) -> np.ndarray:
    """How hard each sequence is: float64, (num_sequences,), larger is harder. Reads all of them once.

    Packed sequences are all about as long as the model allows. So length is that of the documents in them,
    and rarity is a mean over tokens, not the sum that the paper takes over a sentence.
    """
    if config.difficulty == "length":
        return np.array([np.mean(sequence.document_lengths) for sequence in sequences], dtype=np.float64)
    return rarity([sequence.input_ids for sequence in sequences])


def rarity(token_ids: list[np.ndarray]) -> np.ndarray:
    """The mean of -log p(token) over each sequence's tokens, in nats: float64, (num_sequences,).

    p is a token's share of all the sequences' tokens.
    """
    counts = np.zeros(1 + max(int(ids.max()) for ids in token_ids), dtype=np.int64)
    for ids in token_ids:
        counts += np.bincount(ids, minlength=len(counts))
    surprise = -np.log(np.maximum(counts, 1) / counts.sum())
    return np.array([surprise[ids].mean() for ids in token_ids])


class Curriculum:
    """The order in which one run reads its sequences."""

    def __init__(
        self, config: CurriculumConfig, difficulty: np.ndarray, steps: int, global_batch_size: int, seed: int
    ) -> None:
        """Lay down the whole run: `steps` x `global_batch_size` positions of four bytes.

        Args:
            config: how the share of readable sequences grows.
            difficulty: (num_sequences,), larger is harder; equal ones keep the dataset's order.
            steps: optimizer steps of the whole run.
            global_batch_size: sequences in one of them.
            seed: the run's.
        """
        self._config = config
        self._steps = steps
        self._easiest_first = np.argsort(difficulty, kind="stable").astype(np.int32)
        self._batch_size = global_batch_size
        self._plan = self._lay_down(np.random.default_rng(seed))

    def competence(self, step: int) -> float:
        """The share of the sequences, from the easiest on, that may be read at a step (the paper's eq. 7).

        A step counts as progress made, so that the last one may read all, whatever `until` is.
        """
        progress = (step + 1) / (self._config.until * self._steps)
        start = self._config.start**2
        return min(1.0, math.sqrt(progress * (1 - start) + start))

    def readable(self, step: int) -> int:
        """The number of sequences that may be read at a step; at least one."""
        return math.ceil(self.competence(step) * len(self._easiest_first))

    def positions(self, step: int) -> list[int]:
        """Dataset positions of one step's global batch: what `batch_positions` is without a curriculum."""
        first = step * self._batch_size
        return [int(position) for position in self._plan[first : first + self._batch_size]]

    def _lay_down(self, rng: np.random.Generator) -> np.ndarray:
        """Draw each step's batch from the readable sequences that were not read yet in this pass.

        A pass ends when none is left; then all readable ones may be read again. So no sequence is drawn
        twice while another waits, and a run of one epoch of whole batches reads each exactly once: the
        readable share, at least the root of the progress, never falls behind the share that was read.
        """
        pool = np.empty_like(self._easiest_first)  # its first `left` entries may be read
        plan = np.empty(self._steps * self._batch_size, dtype=np.int32)
        known = left = drawn = 0
        for step in range(self._steps):
            readable = self.readable(step)
            pool[left : left + readable - known] = self._easiest_first[known:readable]
            left, known = left + readable - known, readable
            end = drawn + self._batch_size
            while drawn < end:
                if not left:
                    pool[:known] = self._easiest_first[:known]
                    left = known
                count = min(left, end - drawn)
                plan[drawn : drawn + count] = _draw(pool[:left], count, rng)
                left, drawn = left - count, drawn + count
        return plan


def _draw(pool: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw without replacement; those not drawn move to the front of the pool."""
    chosen = rng.choice(len(pool), count, replace=False, shuffle=False)
    drawn = rng.permutation(pool[chosen])
    border = len(pool) - count
    stays = np.ones(count, dtype=bool)
    stays[chosen[chosen >= border] - border] = False
    pool[chosen[chosen < border]] = pool[border:][stays]
    return drawn
