"""How long to wait after wrong passwords: twice as long each time, for a name and for an address."""

import time
from collections import OrderedDict
from collections.abc import Callable

FREE_TRIES = 3
LONGEST_WAIT_SECONDS = 15 * 60.0
FORGET_SECONDS = 60 * 60.0
REMEMBERED = 10_000
"""Keys beyond these are forgotten, the oldest first, so that nobody can fill the memory with names."""


class Throttle:
    """Failures by key. Not for several processes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Count by `clock`, in seconds."""
        self._clock = clock
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_seconds(self, *keys: str) -> float:
        """How long these keys must still wait before they may try; 0 where they need not."""
        return max((self._wait(key) for key in keys), default=0.0)

    def failed(self, *keys: str) -> None:
        """Note a wrong password."""
        for key in keys:
            count, last = self._failures.pop(key, (0, 0.0))
            count = 0 if self._clock() - last > FORGET_SECONDS else count
            self._failures[key] = (count + 1, self._clock())
        while len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, *keys: str) -> None:
        """Forget the failures of these keys."""
        for key in keys:
            self._failures.pop(key, None)

    def _wait(self, key: str) -> float:
        count, last = self._failures.get(key, (0, 0.0))
        if count < FREE_TRIES:
            return 0.0
        wait = min(2.0 ** (count - FREE_TRIES), LONGEST_WAIT_SECONDS)
        return max(0.0, last + wait - self._clock())
