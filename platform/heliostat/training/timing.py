"""Where a step's time goes: data, forward, backward, optimizer, communication.

At every moment one part is current; a collective interrupts it. So the parts never overlap, and their sum is
the step. What cannot be told apart: a collective that runs beside the backward pass (`overlap_comm` on GPUs,
asynchronous handles) costs a step nothing until somebody waits for it, and only that wait is counted as
communication. And waiting for a slower rank looks the same as sending: `seconds_busy`, the step without
communication, is what tells ranks apart. Collectives inside compiled code or C++ are not seen.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol, get_args

Part = Literal["data", "forward", "backward", "optimizer", "communication", "other"]
PARTS: tuple[Part, ...] = get_args(Part)

COLLECTIVES = (
    "all_reduce",
    "all_reduce_coalesced",
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_to_all",
    "all_to_all_single",
    "barrier",
    "broadcast",
    "broadcast_object_list",
    "gather",
    "recv",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "scatter",
    "send",
)
"""What DeepSpeed, AutoTP and the loop call by name in `torch.distributed`. Not isend and irecv: torch
compares those with its own functions when several are sent at once."""


class Clock(Protocol):
    """Marks moments, and tells the seconds between two of them."""

    def mark(self) -> Any:
        """A moment."""

    def seconds(self, earlier: Any, later: Any) -> float:
        """The time between two moments."""


class HostClock:
    """The time of the Python thread: right where computing blocks it, on CPU workers."""

    def mark(self) -> float:
        """Seconds of a monotonic clock."""
        return time.perf_counter()

    def seconds(self, earlier: float, later: float) -> float:
        """Their difference."""
        return later - earlier


class CudaClock:
    """The time of the current CUDA stream: kernels run later than Python starts them.

    Reading the time waits for the later event, once a step; marking does not wait.
    """

    def mark(self) -> Any:
        """An event, recorded in the current stream."""
        import torch

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, earlier: Any, later: Any) -> float:
        """The stream's time between two events."""
        later.synchronize()
        return float(earlier.elapsed_time(later)) / 1000


class StepTimer:
    """Splits each step's time into its parts."""

    def __init__(self, use_gpu: bool = False) -> None:
        """On a GPU the stream's clock is read, else the host's."""
        self._clock: Clock = CudaClock() if use_gpu else HostClock()
        self._marks: list[tuple[Part, Any]] = []

    def begin(self, part: Part) -> None:
        """From now on it is this part, until another begins or the step is finished."""
        self._marks.append((part, self._clock.mark()))

    @contextmanager
    def communication(self) -> Iterator[None]:
        """Interrupts the current part; outside a step it does nothing."""
        before = self._marks[-1][0] if self._marks else None
        if before is None or before == "communication":
            yield
            return
        self.begin("communication")
        try:
            yield
        finally:
            self.begin(before)

    def begin_forward_with(self, model: Any) -> None:
        """Let the forward part begin when the model is called: what a loss does before that is data."""
        model.register_forward_pre_hook(self._on_forward)

    def finish(self) -> dict[str, float]:
        """End the step: `seconds_data`, ..., `seconds_busy`; {} when nothing was begun."""
        if not self._marks:
            return {}
        marks, self._marks = [*self._marks, ("other", self._clock.mark())], []
        seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        for (part, earlier), (_, later) in itertools.pairwise(marks):
            seconds[part] += self._clock.seconds(earlier, later)
        busy = sum(seconds.values()) - seconds["communication"]
        return {f"seconds_{part}": value for part, value in seconds.items()} | {"seconds_busy": busy}

    def _on_forward(self, *_: Any) -> None:
        if self._marks and self._marks[-1][0] == "data":
            self.begin("forward")


@contextmanager
def timed_collectives(timer: StepTimer) -> Iterator[None]:
    """Count what this process spends in `torch.distributed`'s collectives as communication.

    Enter it before `deepspeed.initialize`: DeepSpeed keeps some of the functions it finds then.
    """
    import torch.distributed

    originals = {
        name: getattr(torch.distributed, name) for name in COLLECTIVES if hasattr(torch.distributed, name)
    }
    for name, function in originals.items():
        setattr(torch.distributed, name, _timed(function, timer))
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(torch.distributed, name, function)


def _timed(function: Callable[..., Any], timer: StepTimer) -> Callable[..., Any]:
    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        with timer.communication():
            work = function(*args, **kwargs)
        return _TimedWork(work, timer) if hasattr(work, "wait") else work

    return timed


class _TimedWork:
    """A handle of a collective that runs beside the computation: waiting for it is communication."""

    def __init__(self, work: Any, timer: StepTimer) -> None:
        self._work = work
        self._timer = timer

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        with self._timer.communication():
            return self._work.wait(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)
