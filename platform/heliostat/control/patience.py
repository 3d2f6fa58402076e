"""Waiting for a cluster that is silent: for how long, and what is said meanwhile to who follows a job."""

import time
from collections.abc import Callable

from heliostat.control.ray_api import Unreachable

PATIENCE_SECONDS = 120.0
"""A head that is started again takes about a minute."""
TELL_SECONDS = 5.0
"""So long a silence is nothing to speak of."""


class Patience:
    """Waits out the silences of one cluster."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """`tell` is given a line when a silence is worth a word, and one when it is over."""
        self._tell = tell
        self._heard = time.monotonic()
        self._told = False

    def heard(self) -> None:
        """The cluster has answered."""
        self._heard = time.monotonic()
        if self._told:
            self._told = False
            self._tell("the cluster answers again\n")

    def is_over(self, error: Unreachable) -> bool:
        """Whether it has not answered for too long."""
        silent = time.monotonic() - self._heard
        if silent > TELL_SECONDS and not self._told:
            self._told = True
            self._tell(f"{error}; waiting {PATIENCE_SECONDS:g} s for it\n")
        return silent > PATIENCE_SECONDS
