"""A sweep: its trials while it runs, what was searched and where it led, and the best for a run."""

import re

import pytest
from clicking import cells, choose_row, keep_picture, open_at, part, press, table
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(580)]


def test_a_finished_sweep_is_found_shows_where_each_trial_led_and_lends_its_best(page: Page, sweep):
    open_at(page, "/sweeps")
    choose_row(page, "sweeps", 0)
    expect(page).to_have_url(re.compile(sweep))
    part(page, "Parallel coordinates")
    expect(page.get_by_role("heading", name="Searched values and the result")).to_be_visible()
    expect(page.locator("canvas").first).to_be_visible()
    page.locator(".st-key-parallel_as_table").get_by_text("As a table").click()
    assert len(cells(table(page, "parallel_table"))) == 4 * 3
    assert "train.warmup_ratio" in page.locator("[role=columnheader]").all_text_contents()
    keep_picture(page, "sweep-parallel")
    part(page, "Overview")
    keep_picture(page, "sweep")
    press(page, "Use the best")
    expect(page).to_have_url(re.compile(r"/new_run\?.*clone=heliostat-rates"))
    expect(page.get_by_label("Further changes", exact=False)).to_have_value(
        re.compile(r"tune=null\ntrain.warmup_ratio=0")
    )
    expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
    keep_picture(page, "new_run-best")
