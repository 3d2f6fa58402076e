"""The time of day, for what ends at a time: a clock that is set back brings no expired key back to life."""

import time


class SteadyTime:
    """Seconds since 1970: what the clock says, but never less than it said at first and has passed since.

    A clock that runs ahead for a while and is mended is followed back, as the time passed is counted apart.
    """

    def __init__(self) -> None:
        self._ahead = time.time() - time.monotonic()

    def now(self) -> float:
        """The present."""
        return max(time.time(), self._ahead + time.monotonic())
