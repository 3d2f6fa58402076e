"""What a step says besides its loss: where its time went, how well the machine is used."""

import time
from typing import Any

from heliostat.training.hardware import ProcessUsage, measured_peak, model_flops_utilization, shape_of
from heliostat.training.timing import StepTimer

SECONDS_BETWEEN_LOOKS = 1.0
"""At the machine: asking the system for each of many short steps would cost more than they do."""


class StepFigures:
    """One worker's figures, step by step."""

    def __init__(self, model: Any, timer: StepTimer, attended: float, use_gpu: bool) -> None:
        """Before the model is laid out. `attended`: tokens that attend to each other, on average."""
        self._timer = timer
        self._attended = attended
        self._shape = shape_of(model)
        dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        self._peak = measured_peak("cuda" if use_gpu else "cpu", dtype)
        self._usage = ProcessUsage(use_gpu)
        self._looked, self._seen = 0.0, dict[str, float]()

    def of_step(self, tokens: int, seconds: float, num_workers: int) -> dict[str, float]:
        """The figures of the step that just ended, over `tokens` of the whole global batch."""
        tokens_per_second = tokens / seconds
        utilization = model_flops_utilization(
            self._shape, tokens_per_second, self._attended, self._peak * num_workers
        )
        return {
            "tokens_per_second": tokens_per_second,
            "step_seconds": seconds,
            "mfu": utilization,
            **self._timer.finish(),
            **self._machine(),
        }

    def _machine(self) -> dict[str, float]:
        now = time.monotonic()
        if now - self._looked > SECONDS_BETWEEN_LOOKS:
            self._looked, self._seen = now, self._usage.metrics()
        return self._seen
