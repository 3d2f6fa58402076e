"""The parts of the benchmark, in the order in which they are run."""

from collections.abc import Callable

from tests.bench.part_dedup import dedup, same, ten_times
from tests.bench.part_filters import filters
from tests.bench.part_tokenize import tokenize
from tests.bench.session import Job, Session

PARTS: dict[str, Callable[[Session], list[Job]]] = {
    "dedup": dedup,
    "filters": filters,
    "tokenize": tokenize,
    "same": same,
    "ten-times": ten_times,
}
"""Each returns its jobs, in order."""
