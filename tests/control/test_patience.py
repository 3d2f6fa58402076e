"""What who follows a job is told of a cluster that is silent."""

import pytest

from heliostat.control import patience
from heliostat.control.patience import Patience
from heliostat.control.ray_api import Unreachable

AWAY = Unreachable("no Ray dashboard answers at http://head:8265")


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    at = [0.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: at[0])
    return at


def test_a_hiccup_is_not_worth_a_word(clock):
    told: list[str] = []
    waiting = Patience(told.append)
    clock[0] = patience.TELL_SECONDS
    assert not waiting.is_over(AWAY)
    waiting.heard()
    assert told == []


def test_a_silence_is_told_once_and_its_end_too(clock):
    told: list[str] = []
    waiting = Patience(told.append)
    for seconds in (6.0, 7.0, 60.0):
        clock[0] = seconds
        assert not waiting.is_over(AWAY)
    waiting.heard()
    waiting.heard()
    assert told == [f"{AWAY}; waiting 120 s for it\n", "the cluster answers again\n"]


def test_a_silence_that_lasts_is_over_and_each_answer_begins_anew(clock):
    waiting = Patience(lambda _: None)
    clock[0] = 119.0
    assert not waiting.is_over(AWAY)
    waiting.heard()
    clock[0] = 119.0 + 121.0
    assert waiting.is_over(AWAY)
