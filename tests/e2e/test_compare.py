"""Two runs chosen in the list, over each other, with what differs between them."""

import re

import pytest
from clicking import cells, choose_row, keep_picture, open_at, part, press, table
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(580)]


def test_two_runs_are_chosen_and_compared_and_only_what_differs_is_listed(page: Page, second_run):
    open_at(page, "/runs")
    part(page, "succeeded")
    for row in (0, 1):
        choose_row(page, "runs", row)
    press(page, "Compare 2")
    expect(page).to_have_url(re.compile(r"/compare\?.*runs=train-\w+(,|%2C)train-\w+"))
    expect(page.get_by_role("heading", name="loss")).to_be_visible()
    expect(page.locator("canvas").first).to_be_visible()
    differing = cells(table(page, "compare_config"))
    assert differing == ["learning_rate", "0.004", "0.002"]
    expect(page.get_by_text(re.compile(r"\d+ keys are the same everywhere"))).to_be_visible()
    keep_picture(page, "compare")
