"""The dashboard as people have it: the real command, a real Ray beside it, a real browser in front.

What takes minutes is made once, by clicks, and the journeys share it: two runs, one that failed, a sweep, an
endpoint. Replicas keep their CPUs, so what trains comes before what serves.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml
from clicking import (
    WAIT,
    Dashboard,
    change,
    keep_picture,
    metric,
    open_at,
    opened,
    press,
    press_start,
    run_in,
    timed,
    wait_for_cluster,
    wait_for_state,
)
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.processes import end
from tests.training.running import training_workers

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("HELIOSTAT_CHROMIUM", "/usr/bin/chromium")
PATIENCE_SECONDS = 120.0
DESKTOP, PHONE = 1280, 390
JOURNEYS = (
    "test_first_run", "test_compare", "test_failure_and_retry", "test_sweep", "test_run_to_answer",
    "test_canary", "test_promotion", "test_every_page",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the order of `JOURNEYS`."""
    items.sort(key=lambda item: JOURNEYS.index(item.path.stem) if item.path.stem in JOURNEYS else -1)


@pytest.fixture(autouse=True)
def seconds(request) -> Iterator[None]:
    with timed(request.node.name):
        yield


@pytest.fixture(scope="session")
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
            yield Dashboard(_url(process, log), folder / "workspace", psutil.Process(process.pid))
        finally:
            end(process)


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


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def width(request) -> int:
    return request.param


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = yield
    if report.when == "call" and report.failed and "page" in getattr(item, "funcargs", {}):
        keep_picture(item.funcargs["page"], f"failed-{item.path.stem}", wait=False)
    return report


@pytest.fixture
def page(width, browser, dashboard) -> Iterator[Page]:
    with opened(browser, dashboard, width) as found:
        yield found


@dataclass(frozen=True)
class FirstRun:
    """Its id, and the seconds from Start to its first loss."""

    id: str
    first_loss_seconds: float


@pytest.fixture(scope="session")
def first_run(browser, dashboard) -> FirstRun:
    """The one-minute run, started from Home in two clicks."""
    with timed("from nothing to the end of the first run"), opened(browser, dashboard, DESKTOP) as page:
        wait_for_cluster(page)
        keep_picture(page, "home-empty")
        press(page, "Try the one-minute run")
        began = time.monotonic()
        run = press_start(page)
        expect(metric(page, "Loss")).to_be_visible(timeout=WAIT)
        took = time.monotonic() - began
        expect(page.locator("canvas").first).to_be_visible()
        keep_picture(page, "run-running")
        wait_for_state(page, "succeeded")
        return FirstRun(run, took)


@pytest.fixture(scope="session")
def second_run(browser, dashboard, first_run) -> str:
    """A clone of the first one on a phone, with another learning rate."""
    with timed("a clone to its end"), opened(browser, dashboard, PHONE) as page:
        open_at(page, f"/run?run={first_run.id}")
        press(page, "Clone")
        change(page, "Learning rate", "0.004")
        run = press_start(page)
        wait_for_state(page, "succeeded")
        return run


@pytest.fixture(scope="session")
def failed_run(browser, dashboard, first_run) -> str:
    """A long run whose worker is killed behind its second checkpoint."""
    with timed("a run until its worker is killed"), opened(browser, dashboard, DESKTOP) as page:
        open_at(page, "/new_run?preset=one_minute")
        change(page, "Further changes", "train.max_steps=4000\ntrain.seed=5")
        press_start(page)
        expect(metric(page, "Step")).to_contain_text(re.compile(r"([3-9]\d|\d{3}) / 4,000"), timeout=WAIT)
        workers = training_workers(dashboard.process.pid)
        assert workers, "no worker to kill"
        for worker in workers:
            worker.kill()
        wait_for_state(page, "failed")
        return run_in(page)


@pytest.fixture(scope="session")
def sweep(browser, dashboard, first_run, tmp_path_factory) -> str:
    """A sweep of four short trials, from a recipe that is brought along; watched at both widths while it
    runs, without a reload."""
    recipe = tmp_path_factory.mktemp("brought") / "rates.yaml"
    recipe.write_text(yaml.safe_dump(_small_sweep()))
    with (
        timed("a sweep to its end"),
        opened(browser, dashboard, DESKTOP) as desktop,
        opened(browser, dashboard, PHONE) as phone,
    ):
        open_at(desktop, "/new_run")
        desktop.get_by_text("Bring a recipe").click()
        desktop.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(recipe)
        press(desktop, "Take this one")
        press_start(desktop, "rates")
        trials = desktop.get_by_role("button", name="Open the sweep")
        expect(trials).to_be_visible(timeout=WAIT)
        trials.click()
        expect(desktop).to_have_url(re.compile(r"/sweeps\?.*sweep=tune-"))
        found = re.search(r"sweep=(tune-\w+)", desktop.url)
        assert found
        open_at(phone, f"/sweeps?sweep={found.group(1)}")
        seen = (desktop, phone)
        for page in seen:
            expect(metric(page, "Trials")).to_contain_text(re.compile("[1-3]/4"), timeout=WAIT)
            expect(page.locator(".stMarkdownBadge").filter(has_text="running").first).to_be_visible()
        keep_picture(desktop, "sweep-running")
        keep_picture(phone, "sweep-running")
        for page in seen:
            expect(metric(page, "Trials")).to_contain_text("4/4", timeout=WAIT)
            wait_for_state(page, "finished")
        return found.group(1)


def _small_sweep() -> dict[str, object]:
    """The one-minute recipe with its learning rate and its warm-up to be found."""
    values = yaml.safe_load((ROOT / "jobs" / "recipes" / "one_minute.yaml").read_text())
    del values["compress"]
    values["name"] = "rates"
    values["train"] |= {"max_steps": 20}
    space = {"train.learning_rate": [0.001, 0.004], "train.warmup_ratio": [0.0, 0.2]}
    values["tune"] = {"name": "rates", "search_space": space, "held_out": {"max_sequences": 8}}
    return values


@dataclass(frozen=True)
class Talk:
    """An endpoint's name, and how many clicks it took from the run's page to a conversation with it."""

    endpoint: str
    clicks: int


@pytest.fixture(scope="session")
def answered(browser, dashboard, first_run, second_run) -> dict[int, Talk]:
    """By width: what the first run made, deployed and talked to; then the second's beside it, as a canary."""
    talks = {}
    for width, run in ((DESKTOP, first_run.id), (PHONE, second_run)):
        with timed(f"from a run to an answer at {width} px"), opened(browser, dashboard, width) as page:
            open_at(page, f"/run?run={run}")
            talks[width] = _talk(page)
    return talks


def _talk(page: Page) -> Talk:
    clicks = 0
    press(page, "Deploy")
    clicks += 1
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    keep_picture(page, "deploy")
    press(dialog, "Deploy")
    clicks += 1
    talk = page.get_by_role("button", name="Open in playground")
    expect(talk).to_be_visible(timeout=WAIT)
    talk.click()
    clicks += 1
    expect(page).to_have_url(re.compile(r"/playground\?.*endpoint="))
    found = re.search(r"endpoint=([\w.-]+)", page.url)
    assert found
    box = page.get_by_test_id("stChatInputTextArea")
    box.fill("What does str.lower do?")
    box.press("Enter")
    expect(page.get_by_text(re.compile("tokens/s", re.IGNORECASE)).first).to_be_visible(timeout=WAIT)
    keep_picture(page, "playground")
    return Talk(found.group(1), clicks)
