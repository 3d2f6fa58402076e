"""What is known of something that may be away: an answer with its time, or why there is none.

Whoever shows a reading shows its age; whoever reads never has to catch that a cluster is away.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from heliostat.errors import (
    ArtifactError,
    ClusterError,
    ServingError,
    StorageError,
    StoreError,
    TrackingError,
)

T = TypeVar("T")
AWAY = (ArtifactError, ClusterError, ServingError, StorageError, StoreError, TrackingError)
"""What a place that does not answer, or answers nonsense, raises."""


@dataclass(frozen=True)
class Ok(Generic[T]):
    """An answer, and when it was true."""

    value: T
    at: datetime

    @property
    def age_seconds(self) -> float:
        """How long ago that was."""
        return max(0.0, (datetime.now(UTC) - self.at).total_seconds())


@dataclass(frozen=True)
class Unavailable(Generic[T]):
    """No answer: why, since when, and the last one there was."""

    reason: str
    since: datetime | None = None
    last: Ok[T] | None = None


Reading = Ok[T] | Unavailable[T]


def take(read: Callable[[], T]) -> Reading[T]:
    """Ask now; what is away becomes a reason, a mistake of the one who asks stays an error."""
    now = datetime.now(UTC)
    try:
        return Ok(read(), now)
    except AWAY as error:
        return Unavailable(str(error), now)


def latest(reading: Reading[T]) -> Ok[T] | None:
    """The newest answer there is, however old; None where there never was one."""
    return reading if isinstance(reading, Ok) else reading.last
