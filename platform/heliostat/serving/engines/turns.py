"""Whose requests may run where only one group's can at a time, such as those of one adapter."""

from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Turns(Generic[Item]):
    """Waiting requests of several groups, which take turns.

    The group whose turn it is lets its new requests in at once while no other group waits, and for
    `patience_seconds` from when one does. Then it only finishes what runs, and the turn goes to the group of
    the request that has waited longest.
    """

    def __init__(self, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        self._waiting: dict[str, tuple[Hashable, Item]] = {}
        self._others_since: float | None = None
        self.current: Hashable = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, request_id: str, group: Hashable, item: Item) -> None:
        """Queue a request behind those of its group."""
        self._waiting[request_id] = (group, item)

    def items(self) -> list[Item]:
        """What waits."""
        return [item for _, item in self._waiting.values()]

    def remove(self, request_id: str) -> bool:
        """Take a request out; False when it does not wait."""
        return self._waiting.pop(request_id, None) is not None

    def admit(self, any_running: bool, now: float, room: int | None = None) -> list[tuple[str, Item]]:
        """The requests that may start now, in their order, at most `room` of them; `now` is in seconds and
        never goes back.
        """
        if not self._waiting:
            self._others_since = None
            return []
        if not any_running:
            self.current = next(iter(self._waiting.values()))[0]
            self._others_since = None
        if any(group != self.current for group, _ in self._waiting.values()):
            if self._others_since is None:
                self._others_since = now
            if any_running and now - self._others_since >= self._patience_seconds:
                return []
        else:
            self._others_since = None
        admitted = [key for key, (group, _) in self._waiting.items() if group == self.current]
        return [(key, self._waiting.pop(key)[1]) for key in admitted[:room]]
