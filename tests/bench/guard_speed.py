"""How long the guard takes: requests of 1,000 tokens with the default rules, and pieces of streamed answers.

python -m tests.bench.guard_speed
"""

import random
import statistics
import time
from collections.abc import Callable, Iterable
from pydoc_data.topics import topics

from heliostat.serving.guard.config import DEFAULT_RULES, GuardConfig
from heliostat.serving.guard.guard import Guard

REQUEST_CHARACTERS = 4500  # 1,000 tokens of English
PIECE_CHARACTERS = (4, 40)


def measure(
    num_requests: int = 300, num_pieces: int = 3000, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Milliseconds: `input_p50`, `input_p99`; for a piece of an answer with the default rules and with all of
    them on answers `output_p50`, `output_p99`, `output_all_p50`, `output_all_p99`; `rebuild` for a change
    of rules. On a busy machine `clock=time.thread_time` tells the guard's own time."""
    text = "\n".join(topics.values())
    guard = Guard.build(GuardConfig())
    everywhere = GuardConfig(rules=tuple(rule.model_copy(update={"on": "both"}) for rule in DEFAULT_RULES))
    starts = [number * 1500 % (len(text) - REQUEST_CHARACTERS) for number in range(num_requests)]
    requests = [text[start : start + REQUEST_CHARACTERS] for start in starts]
    guard.review_input(requests[:3])
    figures = _figures("input", requests, lambda request: guard.review_input([request]), clock)
    pieces = _pieces(text, num_pieces)
    figures |= _figures("output", pieces, guard.output().push, clock)
    figures |= _figures("output_all", pieces, Guard.build(everywhere).output().push, clock)
    began = clock()
    Guard.build(everywhere)
    return figures | {"rebuild": (clock() - began) * 1000}


def _pieces(text: str, number: int) -> list[str]:
    chance = random.Random(0)
    pieces, start = [], 0
    for _ in range(number):
        end = start + chance.randint(*PIECE_CHARACTERS)
        pieces.append(text[start:end])
        start = end
    return pieces


def _figures(
    name: str, texts: Iterable[str], look: Callable[[str], object], clock: Callable[[], float]
) -> dict[str, float]:
    taken = []
    for text in texts:
        began = clock()
        look(text)
        taken.append((clock() - began) * 1000)
    cuts = statistics.quantiles(taken, n=100)
    return {f"{name}_p50": cuts[49], f"{name}_p99": cuts[98]}


if __name__ == "__main__":
    own = measure(clock=time.thread_time)
    for figure, value in measure().items():
        print(f"{figure:16} {value:8.3f} ms, of these its own {own[figure]:8.3f} ms")
