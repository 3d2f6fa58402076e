"""What holds for all pages: they fit the screen, a reload keeps the place, language and theme are kept."""

import pytest
from clicking import MAIN, keep_picture, open_at, part, settle
from dashboard.pages import there
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(580)]
PAGES = [entry.name for entry in there() if not entry.hidden]
DARK = "rgb(18, 22, 28)"


def test_a_reload_keeps_the_place_and_the_choice(page: Page, first_run):
    open_at(page, f"/run?run={first_run.id}")
    part(page, "Logs")
    expect(page.get_by_text("[4/", exact=False).first).to_be_visible()
    page.reload()
    expect(page.get_by_text("[4/", exact=False).first).to_be_visible()
    assert first_run.id in page.url


def test_language_and_theme_are_kept(page: Page, first_run):
    open_at(page, "/runs")
    page.goto("/look?language=zh")
    open_at(page, "/runs")
    expect(page.get_by_role("heading", name="运行").first).to_be_visible()
    page.goto("/look?theme=dark")
    open_at(page, f"/run?run={first_run.id}")
    dark = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    assert dark == DARK
    keep_picture(page, "run-dark-zh")
    page.reload()
    expect(page.get_by_role("heading", name="运行").first).to_be_visible()


def test_no_page_is_wider_than_the_screen(page: Page, first_run):
    for name in (*PAGES, "new_run?preset=one_minute"):
        open_at(page, "/" if name == "home" else f"/{name}")
        settle(page)
        keep_picture(page, name.replace("?preset=", "-"))
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"], name
        inside = page.locator(MAIN).first.evaluate("each => each.scrollWidth - each.clientWidth")
        assert inside <= 0, name
