"""How long to wait after wrong passwords: twice as long each time.

Counted three ways. One name from one address waits longest, so that guesses at an account stay few. The same
name from anywhere waits a minute at most, however many addresses guess: others do not lock its owner out.
An address with any names waits seconds at most: it may be a proxy, and then it is everybody's.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FORGET_SECONDS = 60 * 60.0
REMEMBERED = 10_000
"""Keys beyond these are forgotten, the oldest first, so that nobody can fill the memory with names."""


@dataclass(frozen=True)
class Limit:
    """How many failures are free, and the longest wait after more."""

    free_tries: int
    longest_seconds: float


BOTH = Limit(3, 15 * 60.0)
NAME = Limit(10, 60.0)
PEER = Limit(20, 10.0)
_Key = tuple[Limit, str, str]


class Throttle:
    """Failures by name and address. Not for several processes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Count by `clock`, in seconds."""
        self._clock = clock
        self._failures: OrderedDict[_Key, tuple[int, float]] = OrderedDict()

    def wait_seconds(self, name: str, peer: str) -> float:
        """How long this name must still wait at this address; 0 where it need not."""
        return max(self._wait(key) for key in _keys(name, peer))

    def failed(self, name: str, peer: str) -> None:
        """Note a wrong password."""
        for key in _keys(name, peer):
            count, last = self._failures.pop(key, (0, 0.0))
            count = 0 if self._clock() - last > FORGET_SECONDS else count
            self._failures[key] = (count + 1, self._clock())
        while len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, name: str, peer: str) -> None:
        """Forget the failures of this name, and the last of this address: others may be other people's."""
        both, of_name, of_peer = _keys(name, peer)
        self._failures.pop(both, None)
        self._failures.pop(of_name, None)
        count, last = self._failures.get(of_peer, (0, 0.0))
        if count:
            self._failures[of_peer] = (count - 1, last)

    def _wait(self, key: _Key) -> float:
        limit = key[0]
        count, last = self._failures.get(key, (0, 0.0))
        if count < limit.free_tries:
            return 0.0
        doubled = 2.0 ** min(count - limit.free_tries, 20)
        return max(0.0, last + min(doubled, limit.longest_seconds) - self._clock())


def _keys(name: str, peer: str) -> tuple[_Key, _Key, _Key]:
    return (BOTH, name, peer), (NAME, name, ""), (PEER, "", peer)
