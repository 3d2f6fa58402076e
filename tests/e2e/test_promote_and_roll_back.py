"""Two models get a name, one after the other bears an alias, and the alias is given back."""

import re

import pytest
from clicking import cells, choose_row, confirm, keep_picture, open_at, part, press, table
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(580)]


def test_a_version_is_promoted_and_rolled_back(page: Page, second_run, width):
    name = f"docs-{width}"
    open_at(page, "/models")
    keep_picture(page, "models")
    for number in (1, 2):
        register(page, name, number)
        promote(page, f"{name}@v0.{number}.0")
        open_at(page, "/models")
    page.locator(f".st-key-open_{name}_staging").get_by_role("button").click()
    expect(page.get_by_role("heading", name=f"{name}@v0.2.0")).to_be_visible()
    press(page, "Roll staging back")
    confirm(page, "Roll back", f"{name}@v0.2.0")
    expect(page.get_by_role("heading", name=f"{name}@v0.1.0")).to_be_visible()
    expect(page.locator(".stMarkdownBadge").filter(has_text="staging")).to_be_visible()
    part(page, "History")
    assert "rolled back" in cells(table(page, "events"))
    keep_picture(page, "model-history")


def register(page: Page, name: str, number: int) -> None:
    """Give the latest model that has none the next version of a name."""
    choose_row(page, "unregistered", 0)
    press(page, "Register")
    dialog = page.get_by_role("dialog")
    box = dialog.get_by_role("textbox").first
    box.fill(name)
    box.blur()
    press(dialog, "Register")
    expect(page).to_have_url(re.compile(rf"model={name}(@|%40)v0\.{number}\.0"))


def promote(page: Page, reference: str) -> None:
    """To staging, although no evaluation speaks for it."""
    press(page, "Promote")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text(reference).first).to_be_visible()
    keep_picture(page, "promote")
    dialog.get_by_test_id("stCheckbox").get_by_text("Promote it unproved").click()
    press(dialog, "Promote")
    expect(page.get_by_text("It is staging now")).to_be_visible()
    expect(page.locator(".stMarkdownBadge").filter(has_text="staging")).to_be_visible()
