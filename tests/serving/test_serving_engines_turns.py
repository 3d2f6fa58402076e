"""Turns between groups of requests, and the rate of tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.serving.engines.requests import RATE_SECONDS, TokenRate
from heliostat.serving.engines.turns import Turns


def ids(admitted) -> list[str]:
    return [key for key, _ in admitted]


def test_one_group_alone_starts_at_once_and_in_order():
    turns = Turns(patience_seconds=1)
    for key in "abc":
        turns.add(key, "group", key)
        assert ids(turns.admit(any_running=key != "a", now=0)) == [key]


def test_no_more_start_than_there_is_room_for():
    turns = Turns(patience_seconds=1)
    for key in "abc":
        turns.add(key, "group", key)
    assert ids(turns.admit(any_running=False, now=0, room=2)) == ["a", "b"]
    assert ids(turns.admit(any_running=True, now=0, room=0)) == []
    assert ids(turns.admit(any_running=True, now=0, room=1)) == ["c"]


def test_another_group_waits_until_nothing_runs():
    turns = Turns(patience_seconds=1)
    turns.add("a1", "A", None)
    turns.add("b1", "B", None)
    turns.add("a2", "A", None)
    assert ids(turns.admit(any_running=False, now=0)) == ["a1", "a2"]
    assert ids(turns.admit(any_running=True, now=100)) == []
    assert ids(turns.admit(any_running=False, now=101)) == ["b1"]


def test_a_group_with_a_steady_stream_of_requests_lets_the_other_in_after_its_patience():
    turns = Turns(patience_seconds=1)
    turns.add("a0", "A", None)
    turns.admit(any_running=False, now=0)
    turns.add("b", "B", None)
    turns.add("a1", "A", None)
    assert ids(turns.admit(any_running=True, now=5)) == ["a1"]  # B has only now come to notice
    turns.add("a2", "A", None)
    assert ids(turns.admit(any_running=True, now=5.9)) == ["a2"]
    turns.add("a3", "A", None)
    assert ids(turns.admit(any_running=True, now=6.1)) == []
    assert ids(turns.admit(any_running=False, now=9)) == ["b"]
    turns.add("b2", "B", None)
    assert ids(turns.admit(any_running=True, now=9.5)) == ["b2"]
    assert ids(turns.admit(any_running=False, now=9.6)) == ["a3"]


def test_a_waiting_request_can_leave():
    turns = Turns(patience_seconds=1)
    turns.add("a", "A", None)
    assert turns.remove("a")
    assert not turns.remove("a")
    assert turns.admit(any_running=False, now=0) == []


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.floats(0, 2), st.booleans()), max_size=40))
def test_groups_never_run_together_and_everybody_starts(events):
    turns, running, now, started = Turns(patience_seconds=1), {}, 0.0, []

    def admit() -> None:
        for key, group in turns.admit(bool(running), now):
            running[key] = group
            started.append(key)
        assert len(set(running.values())) <= 1

    for number, (group, seconds, one_ends) in enumerate(events):
        now += seconds
        turns.add(str(number), group, group)
        if one_ends and running:
            running.pop(next(iter(running)))
        admit()
    for _ in range(len(events) + 1):
        running.clear()
        admit()
    assert sorted(started, key=int) == [str(number) for number in range(len(events))]


def test_the_rate_counts_the_last_seconds_only():
    rate = TokenRate()
    assert rate.per_second(now=5.0) == 0
    for second in range(100, 120):
        rate.add(30, float(second))
        rate.add(20, second + 0.5)
    assert rate.per_second(now=120.0) == pytest.approx(50, rel=0.15)
    assert rate.per_second(now=120.0 + 2 * RATE_SECONDS) == 0
