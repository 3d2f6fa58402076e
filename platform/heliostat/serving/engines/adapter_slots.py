"""Which adapters have a place in an engine that holds a few at a time, counted by their use. Pure.

A request asks for its adapter and is granted it: at once where it is there, after a load where there is room
for one more or one that nobody uses can go (the one that was not used for longest), else when one is let go
of. Where all are in use without a pause, the one at the front takes no new requests as soon as somebody has
waited too long, so that nobody waits for ever.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass


@dataclass
class _Slot:
    users: int = 0
    loading: bool = True


@dataclass(frozen=True)
class _Waiting:
    adapter: str
    since: float


@dataclass(frozen=True)
class Grant:
    """A request has its adapter; with `load` that must be loaded first, and `evicted` unloaded before it."""

    ticket: int
    adapter: str
    load: bool = False
    evicted: str | None = None


class AdapterSlots:
    """The adapters that are there, the least recently used first, and the requests that use or want one."""

    def __init__(self, num_slots: int, patience_seconds: float) -> None:
        """Who has waited `patience_seconds` gets the next place."""
        self._num_slots = num_slots
        self._patience_seconds = patience_seconds
        self._slots: OrderedDict[str, _Slot] = OrderedDict()
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()
        self._using: dict[int, _Slot] = {}

    @property
    def users(self) -> dict[str, int]:
        """The requests of each adapter that is there or being loaded."""
        return {adapter: slot.users for adapter, slot in self._slots.items()}

    @property
    def waiting(self) -> Counter[str]:
        """The requests that wait, by adapter."""
        return Counter(each.adapter for each in self._waiting.values())

    def ask(self, ticket: int, adapter: str, now: float) -> None:
        """A request wants an adapter; `ticket` is its own number."""
        self._waiting[ticket] = _Waiting(adapter, now)

    def leave(self, ticket: int) -> None:
        """A request has ended, or waits no more."""
        self._waiting.pop(ticket, None)
        slot = self._using.pop(ticket, None)
        if slot:
            slot.users -= 1

    def loaded(self, adapter: str) -> None:
        """A load has ended well."""
        self._slots[adapter].loading = False

    def drop(self, adapter: str) -> None:
        """A load has failed; its place is free."""
        del self._slots[adapter]

    def admit(self, now: float) -> list[Grant]:
        """What can be granted now, first come first served; `now` is in seconds and never goes back."""
        grants, leaving = [], None
        for ticket, wanted in list(self._waiting.items()):
            grant = None if wanted.adapter == leaving else self._grant(ticket, wanted.adapter)
            if grant:
                del self._waiting[ticket]
                grants.append(grant)
            elif leaving is None and now - wanted.since >= self._patience_seconds:
                leaving = next(iter(self._slots))  # and stays there, as nobody begins to use it
        return grants

    def _grant(self, ticket: int, adapter: str) -> Grant | None:
        evicted = None
        there = adapter in self._slots
        if not there and len(self._slots) >= self._num_slots:
            evicted = self._idle()
            if evicted is None:
                return None
            del self._slots[evicted]
        slot = self._slots.setdefault(adapter, _Slot())
        slot.users += 1
        self._using[ticket] = slot
        self._slots.move_to_end(adapter)
        return Grant(ticket, adapter, not there, evicted)

    def _idle(self) -> str | None:
        """The adapter that nobody uses, and was not used for longest."""
        return next((key for key, slot in self._slots.items() if not slot.users and not slot.loading), None)
