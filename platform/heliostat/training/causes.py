"""From the failures of a group of workers to the one that was first, in one line."""

import errno
import os
import re

from heliostat.errors import HeliostatError

LOST = re.compile(r"ActorDiedError|ActorUnavailableError|died unexpectedly|NODE_DIED|SYSTEM_ERROR|actor died")
NOT_AGAIN = "but not when it is computed again"
FULL_DISK = (
    "No space left on device",
    "PytorchStreamWriter failed",
    "unexpected pos",
    os.strerror(errno.EDQUOT),
)


def first_cause(error: Exception) -> tuple[int | None, str]:
    """(rank, words) of the worker that failed by itself: the others only lost it.

    A worker that says on purpose what is wrong comes first; then one that does not speak of its peers.
    """
    failures: dict[int, BaseException] = dict(getattr(error, "worker_failures", {}))
    if not failures:
        return None, str(error).strip() or repr(error)
    causes = {rank: getattr(failure, "cause", None) or failure for rank, failure in failures.items()}
    rank = min(causes, key=lambda each: (_order(causes[each]), each))
    return rank, str(causes[rank]).strip() or repr(causes[rank])


def in_one_line(text: str) -> str:
    """The words of an exception without its trace; a full disk is called that."""
    if any(words in text for words in FULL_DISK):
        return "a checkpoint cannot be written, the disk is full; free some space; the last one is untouched"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else text


def is_lost(text: str) -> bool:
    """Whether a worker said nothing of its own: its process was killed, or its host is gone."""
    return bool(LOST.search(text))


def _order(cause: BaseException) -> int:
    if isinstance(cause, HeliostatError) or "heliostat.errors." in str(cause):
        return 1 if NOT_AGAIN in str(cause) else 0
    peers = ("Connection closed by peer", "Connection reset", "gloo", "NCCL", "ActorDiedError")
    return 2 if any(word in f"{type(cause).__name__}: {cause}" for word in peers) else 1
