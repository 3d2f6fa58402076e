"""A run whose worker is killed: why it failed, and that it goes on from its checkpoint."""

import re

import pytest
from clicking import WAIT, cells, keep_picture, open_at, part, press, stop, table
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(580)]
EVERY_STEPS = 10


def test_a_failed_run_says_why_goes_on_from_its_checkpoint_shows_where_and_stops(page: Page, failed_run):
    open_at(page, f"/run?run={failed_run}")
    expect(page.get_by_text("It failed:")).to_be_visible()
    expect(page.get_by_text("its process was killed or its host is gone").first).to_be_visible()
    keep_picture(page, "run-failed")
    part(page, "Checkpoints")
    expect(page.get_by_text("Retry goes on from the latest.")).to_be_visible()
    saved = max(int(each) for each in cells(table(page, "run_checkpoints")) if each.isdigit())
    assert saved >= 2 * EVERY_STEPS
    part(page, "Curves")
    press(page, "Retry")
    expect(page).not_to_have_url(re.compile(failed_run))
    told = page.get_by_text(re.compile(rf"Went on from a checkpoint with step .*\b{saved + 1}\b"))
    expect(told).to_be_visible(timeout=WAIT)
    keep_picture(page, "run-retried")
    stop(page)
