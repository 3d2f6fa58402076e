"""How a running training is told to save and stop: a note in the cluster's own key-value store.

An actor would do as well, but starting one takes seconds of a processor, and an idle one looks for signals a
hundred times a second.
"""

import logging
import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass

from ray.exceptions import RayError
from ray.experimental import internal_kv

NAMESPACE = "heliostat-stop"
SECONDS_BETWEEN_LOOKS = 1.0
NO_ANSWER = (RayError, RuntimeError, ConnectionError)
"""What a head that is gone, or busy for too long, looks like."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StopBell:
    """Rung by whoever has its name, on any host of the cluster."""

    name: str

    @classmethod
    def hung(cls) -> "StopBell":
        """A new one, which nobody has rung."""
        return cls(secrets.token_hex(16))

    def ring(self) -> None:
        """Tell the run to save and stop."""
        internal_kv._internal_kv_put(self.name, b"stop", namespace=NAMESPACE)

    def has_rung(self) -> bool:
        """Asks the cluster's head."""
        return bool(internal_kv._internal_kv_exists(self.name, namespace=NAMESPACE))

    def take_down(self) -> None:
        """Leave nothing in the store, while there is one."""
        with suppress(*NO_ANSWER):
            internal_kv._internal_kv_del(self.name, namespace=NAMESPACE)


class StopWish:
    """Whether the bell has rung, as a thread that asks every second knows: a step never waits for it."""

    def __init__(self, bell: StopBell) -> None:
        """Begin to listen."""
        self._told = threading.Event()
        threading.Thread(target=self._listen, args=(bell,), name="stop-wish", daemon=True).start()

    def told(self) -> bool:
        """Looks without waiting."""
        return self._told.is_set()

    def _listen(self, bell: StopBell) -> None:
        silence = threading.Event()
        while not silence.wait(SECONDS_BETWEEN_LOOKS) and internal_kv._internal_kv_initialized():
            try:
                if bell.has_rung():
                    self._told.set()
                    return
            except NO_ANSWER as error:
                logger.info("not known whether to stop: %s", error)
