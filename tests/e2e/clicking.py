"""What a person with a browser does, in a line each: open a page, press a button, choose a row, talk."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Locator, Page, expect

SCREENSHOTS = os.environ.get("HELIOSTAT_SCREENSHOTS")
WAIT = 180_000
"""Milliseconds for what a cluster on two cores takes its time for."""
ROW_HEIGHT = 35
expect.set_options(timeout=20_000)
CELL = "[role=gridcell]"
MAIN = "[data-testid=stMain], [data-testid=stAppScrollToBottomContainer]"
"""What of a page scrolls: of one with a conversation another than of the others."""


@dataclass(frozen=True)
class Dashboard:
    """Where it answers, its workspace, and its process."""

    url: str
    workspace: Path
    process: psutil.Process


class opened:
    """A fresh browser in a block; the block fails where a page logs an error, or asks another host."""

    def __init__(self, browser: Browser, dashboard: Dashboard, width: int) -> None:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, base_url=dashboard.url, locale="en-US"
        )
        self._context, self._faults = context, []
        self._page = context.new_page()
        self._page.set_default_timeout(30_000)
        self._page.on("console", self._heard)
        self._page.on("request", lambda request: self._asked(request.url, dashboard.url))

    def _heard(self, message) -> None:
        if message.type == "error":
            self._faults.append(message.text)

    def _asked(self, url: str, own: str) -> None:
        if url.startswith(("http", "ws")) and url.partition("://")[2].partition("/")[0] not in own:
            self._faults.append(f"asked another host: {url}")

    def __enter__(self) -> Page:
        return self._page

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None:
            keep_picture(self._page, "failed", wait=False)
        self._context.close()
        if kind is None:
            assert self._faults == []


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Print how long a part of a journey took."""
    began = time.monotonic()
    yield
    print(f"\n  {time.monotonic() - began:5.1f} s  {name}")


def keep_picture(page: Page, name: str, wait: bool = True) -> None:
    """Keep what the whole page looks like, where a folder for it is named; its width goes into the name."""
    if not SCREENSHOTS:
        return
    Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
    page.bring_to_front()
    if wait:
        settle(page)
    size = page.viewport_size
    long = page.locator(MAIN).first.evaluate("each => each.scrollHeight")
    page.set_viewport_size({"width": size["width"], "height": max(size["height"], min(long, 6000))})
    page.wait_for_timeout(400)  # charts are drawn anew
    page.screenshot(path=f"{SCREENSHOTS}/{name}-{size['width']}.png")
    page.set_viewport_size(size)


def settle(page: Page) -> None:
    """Wait until the page's script has run and what it sent is drawn."""
    page.wait_for_function(
        "() => { const app = document.querySelector('[data-testid=stApp]');"
        " return app && app.dataset.testScriptState !== 'running'"
        " && !document.querySelector('[data-testid=stSkeleton]'); }",
        polling=200,  # of two windows only the one in front gets frames
    )


def open_at(page: Page, path: str) -> None:
    """Open a page and wait for its title."""
    page.goto(path)
    expect(page.get_by_test_id("stApp").locator("h1").first).to_be_visible()


def wait_for_cluster(page: Page) -> None:
    """Home says that the cluster answers."""
    open_at(page, "/")
    expect(page.get_by_text("The cluster answers")).to_be_visible(timeout=WAIT)


def press(within: Page | Locator, name: str) -> None:
    """Click a button by its name."""
    within.get_by_role("button", name=name, exact=True).click()


def confirm(page: Page, button: str, names: str) -> None:
    """Agree to what a dialog asks, after seeing that it names the thing."""
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text(names, exact=False).first).to_be_visible()
    press(dialog, button)
    expect(dialog).to_be_hidden()


def part(page: Page, name: str) -> None:
    """Go to a part of a page."""
    page.get_by_test_id("stButtonGroup").get_by_text(name, exact=True).click()


def metric(page: Page, label: str) -> Locator:
    """A figure by what it is of."""
    return page.get_by_test_id("stMetric").filter(has_text=label)


def table(page: Page, key: str) -> Locator:
    """A table by its key, with the button below it."""
    return page.locator(f".st-key-{key}_box")


def cells(within: Page | Locator) -> list[str]:
    """What stands in a table, cell by cell: in its picture is a table for those who cannot see."""
    found = within.locator(CELL)
    expect(found.first).to_be_attached()
    return [each.strip() for each in found.all_text_contents()]


def choose_row(page: Page, key: str, number: int) -> None:
    """Tick a row of a table."""
    expect(table(page, key).locator(CELL).first).to_be_attached()
    position = {"x": 18, "y": ROW_HEIGHT * (number + 1) + ROW_HEIGHT / 2}
    table(page, key).locator(".dvn-scroller").click(position=position)


def change(page: Page, label: str, value: str) -> None:
    """Type another value into a field."""
    box = page.get_by_label(label, exact=False).and_(page.locator("input, textarea")).first
    box.fill(value)
    box.blur()


def press_start(page: Page, name: str = "one-minute") -> str:
    """Hand a run in; its id."""
    start = page.get_by_role("button", name="Start", exact=True)
    expect(start).to_be_enabled()
    before = page.url
    start.click()
    expect(page).not_to_have_url(before)
    expect(page).to_have_url(re.compile(rf"/run\?.*run=heliostat-{name}"))
    return run_in(page)


def run_in(page: Page) -> str:
    """The id of the run that a page is about."""
    found = re.search(r"run=(heliostat[\w-]+)", page.url)
    assert found, page.url
    return found.group(1)


def wait_for_state(page: Page, state: str) -> None:
    """Until the run's badge says so."""
    expect(page.locator(".stMarkdownBadge").filter(has_text=state).first).to_be_visible(timeout=WAIT)


def stop(page: Page) -> None:
    """Stop the run that the page is about."""
    press(page, "Stop")
    confirm(page, "Stop", run_in(page))
    wait_for_state(page, "stopped")
