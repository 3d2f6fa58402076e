"""Which positions each step reads: a pure function of the step, with a curriculum or without one."""

from collections.abc import Sequence

from heliostat.tokenized import TokenizedRows
from heliostat.training.config import TrainConfig
from heliostat.training.curriculum import Curriculum, difficulties
from heliostat.training.schedule import batch_positions


class Batches:
    """The global batches of one run, the same for every number of workers."""

    def __init__(self, config: TrainConfig, rows: TokenizedRows, steps: int) -> None:
        """With a curriculum all rows are read once here, to know how hard they are."""
        self._config = config
        self._num_rows = len(rows)
        self._curriculum: Curriculum | None = None
        if config.curriculum is not None:
            difficulty = difficulties(config.curriculum, (rows.row(at) for at in range(len(rows))))
            batch = config.sequences_per_step
            self._curriculum = Curriculum(config.curriculum, difficulty, steps, batch, config.seed)

    def positions(self, step: int) -> list[int]:
        """The global batch of a step, counted from 0."""
        if self._curriculum is not None:
            return self._curriculum.positions(step)
        return batch_positions(step, self._num_rows, self._config.sequences_per_step, self._config.seed)

    def figures(self, step: int) -> dict[str, float]:
        """What the curriculum says of a step."""
        return {} if self._curriculum is None else {"competence": self._curriculum.competence(step)}


def mean_document_length(rows: TokenizedRows, most_rows: int = 256) -> float:
    """Tokens that attend to each other, on average over the first rows: what attention costs goes by it."""
    lengths: Sequence[int] = [
        n for at in range(min(len(rows), most_rows)) for n in rows.row(at).document_lengths
    ]
    return sum(n * n for n in lengths) / sum(lengths)
