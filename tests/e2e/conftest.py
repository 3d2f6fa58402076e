"""The dashboard as people have it: the real command, a real Ray beside it, a real browser in front."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("HELIOSTAT_CHROMIUM", "/usr/bin/chromium")
SCREENSHOTS = os.environ.get("HELIOSTAT_SCREENSHOTS")
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Dashboard:
    """Where it answers, its workspace, and what it printed."""

    url: str
    workspace: Path
    log: Path


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory) -> Iterator[Dashboard]:
    """`heliostat dashboard` with a home of its own, so that the cluster it starts is nobody else's."""
    folder = tmp_path_factory.mktemp("dashboard")
    with tempfile.TemporaryDirectory(prefix="h-", dir="/tmp") as home:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "HELIOSTAT_", "XDG_"))}
        environment = kept | {
            "HOME": home,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}",
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-m", "heliostat.cli", "dashboard", "--port", "0", "--no-browser"]
        command += ["--workspace", str(folder / "workspace")]
        log = folder / "log"
        with log.open("w") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        try:
            yield Dashboard(_url(process, log), folder / "workspace", log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise


def _url(process: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        if found:
            return found.group(0)
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[1280, 390], ids=["desktop", "phone"])
def page(request, browser, dashboard) -> Iterator[Page]:
    """A fresh browser at a width; ends the test where a page logs an error, or asks another host."""
    with opened(browser, dashboard, request.param) as found:
        yield found


@pytest.fixture
def desktop(browser, dashboard) -> Iterator[Page]:
    with opened(browser, dashboard, 1280) as found:
        yield found


class opened:
    """A fresh browser in a block."""

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
        self._context.close()
        if kind is None:
            assert self._faults == []


def keep_picture(page: Page, name: str) -> None:
    """Keep what the page looks like, where a folder for it is named."""
    if SCREENSHOTS:
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{SCREENSHOTS}/{name}.png", full_page=True)


def open_at(page: Page, path: str) -> None:
    """Open a page and wait for its title."""
    page.goto(path)
    expect(page.get_by_test_id("stApp").locator("h1").first).to_be_visible()


def wait_for_cluster(page: Page) -> None:
    """Home says that the cluster answers."""
    open_at(page, "/")
    expect(page.get_by_text("The cluster answers")).to_be_visible(timeout=PATIENCE_SECONDS * 1000)
