"""From an empty workspace to a first loss, an endpoint and an answer, by clicks alone."""

import re
import time

import pytest
from conftest import keep_picture, open_at, wait_for_cluster
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.e2e
FIRST_POINT_SECONDS = 60.0


def test_the_first_run_takes_two_clicks_and_shows_its_first_loss_within_a_minute(desktop: Page, dashboard):
    wait_for_cluster(desktop)
    keep_picture(desktop, "home-empty")
    desktop.get_by_role("button", name="Try the one-minute run").click()
    start = desktop.get_by_role("button", name="Start", exact=True)
    expect(start).to_be_enabled()
    keep_picture(desktop, "new_run")
    began = time.monotonic()
    start.click()
    expect(desktop).to_have_url(re.compile(r"/run\?.*run=heliostat-one-minute"))
    expect(desktop.get_by_test_id("stMetric").filter(has_text="Loss")).to_be_visible(timeout=90_000)
    took = time.monotonic() - began
    print(f"first loss {took:.1f} s after Start")
    expect(desktop.get_by_test_id("stEChartsChart").or_(desktop.locator("canvas")).first).to_be_visible()
    keep_picture(desktop, "run-running")
    assert took < FIRST_POINT_SECONDS
    expect(desktop.get_by_text("succeeded").first).to_be_visible(timeout=90_000)
    keep_picture(desktop, "run")


def test_a_reload_keeps_the_place_and_the_choice(page: Page):
    run = newest_run(page)
    open_at(page, f"/run?run={run}")
    page.get_by_test_id("stApp").get_by_text("Logs", exact=True).click()
    expect(page.get_by_text("[4/", exact=False).first).to_be_visible()
    page.reload()
    expect(page.get_by_text("[4/", exact=False).first).to_be_visible()
    assert run in page.url


def test_language_and_theme_are_kept(page: Page):
    open_at(page, "/runs")
    page.goto("/look?language=zh")
    open_at(page, "/runs")
    expect(page.get_by_role("heading", name="运行").first).to_be_visible()
    page.goto("/look?theme=dark")
    open_at(page, "/runs")
    dark = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    assert dark == "rgb(18, 22, 28)"
    page.reload()
    expect(page.get_by_role("heading", name="运行").first).to_be_visible()


def test_no_page_is_wider_than_the_screen(page: Page):
    for path in ("/", "/new_run?preset=one_minute", "/runs", "/data", "/models", "/endpoints", "/settings"):
        open_at(page, path)
        keep_picture(page, f"{path.strip('/').partition('?')[0] or 'home'}-{page.viewport_size['width']}")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= page.viewport_size["width"], path


def newest_run(page: Page) -> str:
    """The id in the address of the latest run, opened from Home."""
    open_at(page, "/")
    page.get_by_role("button", name="Open", exact=True).first.click()
    expect(page).to_have_url(re.compile(r"run=heliostat-"))
    return re.search(r"run=([\w-]+)", page.url).group(1)
