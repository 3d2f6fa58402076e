"""From an empty workspace to a first loss, by clicks alone."""

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(580)]
FIRST_POINT_SECONDS = 60.0


def test_the_first_run_takes_two_clicks_and_shows_its_first_loss_within_a_minute(first_run):
    print(f"  first loss {first_run.first_loss_seconds:.1f} s after Start")
    assert first_run.first_loss_seconds < FIRST_POINT_SECONDS


def test_the_first_run_is_cloned_with_a_change_and_run_on_a_phone(first_run, second_run):
    assert second_run != first_run.id
