"""Which adapters have a place: pure rules."""

from hypothesis import given
from hypothesis import strategies as st

from heliostat.serving.engines.adapter_slots import AdapterSlots, Grant


def slots(num_slots: int = 2) -> AdapterSlots:
    return AdapterSlots(num_slots, patience_seconds=2)


def ask(held: AdapterSlots, ticket: int, adapter: str, now: float = 0) -> list[Grant]:
    held.ask(ticket, adapter, now)
    granted = held.admit(now)
    for grant in granted:
        if grant.load:
            held.loaded(grant.adapter)
    return granted


def test_the_first_request_loads_and_others_share_what_is_there():
    held = slots()
    assert ask(held, 1, "a") == [Grant(1, "a", load=True)]
    assert ask(held, 2, "a") == [Grant(2, "a")]
    assert held.users == {"a": 2}


def test_the_one_that_was_not_used_for_longest_and_that_nobody_uses_makes_room():
    held = slots(3)
    for ticket, adapter in enumerate("abca"):
        ask(held, ticket, adapter)
    held.leave(1)
    held.leave(2)
    assert ask(held, 4, "d") == [Grant(4, "d", load=True, evicted="b")]
    assert ask(held, 5, "e") == [Grant(5, "e", load=True, evicted="c")]
    held.leave(0)  # one of two that use a
    assert ask(held, 6, "f") == []


def test_a_request_waits_while_all_are_in_use_and_gets_the_place_that_becomes_free():
    held = slots(1)
    ask(held, 1, "a")
    assert ask(held, 2, "b") == []
    assert held.waiting == {"b": 1}
    assert ask(held, 3, "a") == [Grant(3, "a")]
    held.leave(1)
    assert held.admit(0) == []
    held.leave(3)
    assert held.admit(0) == [Grant(2, "b", load=True, evicted="a")]


def test_what_is_being_loaded_is_not_evicted_though_who_asked_has_left():
    held = slots(1)
    held.ask(1, "a", 0)
    held.admit(0)
    held.leave(1)
    assert ask(held, 2, "b") == []
    held.loaded("a")
    assert held.admit(0) == [Grant(2, "b", load=True, evicted="a")]


def test_a_load_that_failed_leaves_its_place_and_its_users_count_nowhere():
    held = slots(1)
    held.ask(1, "a", 0)
    held.admit(0)
    held.drop("a")
    assert ask(held, 2, "a") == [Grant(2, "a", load=True)]
    held.leave(1)  # had the one that failed
    assert held.users == {"a": 1}


def test_who_has_waited_too_long_is_let_in_although_another_adapter_is_asked_for_without_a_pause():
    held = slots(1)
    ask(held, 1, "a", 0)
    assert ask(held, 2, "b", 0) == []
    assert ask(held, 3, "a", 1.9) == [Grant(3, "a")]
    assert ask(held, 4, "a", 2) == []
    held.leave(1)
    held.leave(3)
    assert held.admit(2.1) == [Grant(2, "b", load=True, evicted="a")]
    held.loaded("b")
    held.leave(2)
    assert held.admit(2.2) == [Grant(4, "a", load=True, evicted="b")]


def test_who_gives_up_waiting_stands_in_nobodys_way():
    held = slots(1)
    ask(held, 1, "a", 0)
    ask(held, 2, "b", 0)
    assert ask(held, 3, "a", 5) == []
    held.leave(2)
    assert held.admit(5) == [Grant(3, "a")]


class Watched:
    """Slots, and a second account of what they have granted, which they are held to."""

    def __init__(self, num_slots: int) -> None:
        self.held, self.num_slots = slots(num_slots), num_slots
        self.there: set[str] = set()
        self.loading: set[str] = set()
        self.using: dict[int, str] = {}
        self.waiting: dict[int, str] = {}

    def ask(self, ticket: int, adapter: str, now: float) -> None:
        self.waiting[ticket] = adapter
        self.held.ask(ticket, adapter, now)

    def leave(self, ticket: int) -> None:
        self.held.leave(ticket)
        self.using.pop(ticket, None)
        self.waiting.pop(ticket, None)

    def load(self, adapter: str) -> None:
        self.held.loaded(adapter)
        self.loading.remove(adapter)

    def admit(self, now: float) -> None:
        for grant in self.held.admit(now):
            assert self.waiting.pop(grant.ticket) == grant.adapter
            if grant.evicted:
                assert grant.evicted not in self.loading.union(self.using.values())
                self.there.remove(grant.evicted)
            assert grant.load == (grant.adapter not in self.there)
            self.there.add(grant.adapter)
            self.loading.update({grant.adapter} if grant.load else ())
            self.using[grant.ticket] = grant.adapter
        assert len(self.there) <= self.num_slots
        assert self.held.users == {name: list(self.using.values()).count(name) for name in self.there}


events = st.lists(
    st.tuples(st.sampled_from(["ask", "leave", "load"]), st.integers(0, 4), st.floats(0, 3)), max_size=60
)


@given(events, st.integers(1, 3))
def test_nobody_loses_what_it_uses_and_in_the_end_everybody_had_its_turn(events, num_slots):
    watched, now = Watched(num_slots), 0.0
    for ticket, (kind, number, seconds) in enumerate(events):
        now += seconds
        tickets, loading = [*watched.using, *watched.waiting], sorted(watched.loading)
        if kind == "ask":
            watched.ask(ticket, f"adapter-{number}", now)
        elif kind == "leave" and tickets:
            watched.leave(tickets[number % len(tickets)])
        elif kind == "load" and loading:
            watched.load(loading[number % len(loading)])
        watched.admit(now)
    for _ in range(2 * len(watched.waiting) + 1):
        for name in sorted(watched.loading):
            watched.load(name)
        for ticket in list(watched.using):
            watched.leave(ticket)
        watched.admit(now)
    assert not watched.waiting
