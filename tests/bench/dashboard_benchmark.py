"""How long the dashboard's pages take to open, with 1,000 runs and 1,000,000 lines of metrics.

python -m tests.bench.dashboard_benchmark [--runs 1000] [--repeats 5] [--only runs run]

A page is open when a real Chromium, whose window is up, shows its title and its main content. Three times
each: `first` is the first time since the server was started, Home at once and the others when it has had time
to prepare itself; `new` are new browsers before a server that has shown the page, `again` is a browser that
was here before. Medians but for `first`; the machine's load stands beside them. Ends with 1 where one takes
too long.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, BrowserContext, sync_playwright
from tests.bench.dashboard_workspace import Planted, plant
from tests.bench.machine import machine
from tests.dashboard.served import ROOT, served

from heliostat.control.run_index import sync_runs
from heliostat.control.sites import Site

BAR_SECONDS = 1.5
PATIENCE_MS = 60_000
CHROMIUM = os.environ.get("HELIOSTAT_CHROMIUM", "/usr/bin/chromium")
WINDOW_SECONDS = 1.5
"""A new window of Chromium first draws its own tabs and toolbar, which takes a core for about a second."""
SETTLING_SECONDS = 15.0
"""After Home: what pages need later is imported meanwhile, and the first person has begun to read."""
FLAGS = ("--no-sandbox", "--disable-gpu")
"""Where there is no GPU, Debian's Chromium else emulates one on the processor that the page needs."""
TITLE = '[data-testid="stMain"] h1'
ENDED = '[data-testid="stApp"][data-test-script-state="notRunning"]'
"""The page's script has ended: what a page without a table or a chart is waited for."""
CHART = "canvas, svg"


@dataclass(frozen=True)
class Opening:
    """A page as it is asked for, and the selector of its main content."""

    name: str
    view: str
    content: str = ENDED
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Its address below the server's."""
        path = "/" if self.view == "home" else f"/{self.view}"
        return f"{path}?{urlencode(self.query)}" if self.query else path


def openings(planted: Planted) -> list[Opening]:
    """Every page, and those that show one thing among many."""
    several = ",".join((planted.big, *planted.runs[:4]))
    known = [
        Opening("home", "home", '[class*="st-key-home_open_"]'),
        Opening("new run", "new_run", '[class*="st-key-choose_"]'),
        Opening("new run: form", "new_run", ".st-key-new_run_start", {"preset": "one_minute"}),
        Opening("data", "data", ".st-key-datasets canvas"),
        Opening("data: one", "data", _chart("funnel"), {"dataset": planted.dataset}),
        Opening("runs", "runs", ".st-key-runs canvas"),
        Opening("runs: found", "runs", ".st-key-runs canvas", {"runs_state": "failed"}),
        Opening("run", "run", _chart("chart_loss"), {"run": planted.runs[0]}),
        Opening("run: job at work", "run", _chart("chart_loss"), {"run": planted.job}),
        Opening("run: 100,000 steps", "run", _chart("chart_loss"), {"run": planted.big}),
        Opening("compare: 5 runs", "compare", _chart("chart_loss"), {"runs": several}),
        Opening("sweeps", "sweeps", ".st-key-sweeps canvas"),
        Opening("sweeps: one", "sweeps", _chart("history"), {"sweep": planted.sweep}),
        Opening("evaluations", "evaluations", ".st-key-leaderboard_box canvas"),
        Opening("models", "models", ".st-key-versions canvas"),
        Opening("models: lineage", "models", _chart("lineage"), {"model": planted.version, "tab": "lineage"}),
        Opening("endpoints", "endpoints", ".st-key-endpoints_deploy"),
    ]
    there = {path.stem for path in (ROOT / "dashboard" / "views").glob("*.py")}
    return known + [Opening(view.replace("_", " "), view) for view in sorted(there - {o.view for o in known})]


def _chart(key: str) -> str:
    return f":is({', '.join(f'.st-key-{key} {kind}' for kind in CHART.split(', '))})"


def seconds_to_open(context: BrowserContext, url: str, opening: Opening) -> float:
    """From the navigation to the title and the content being seen."""
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.wait_for_timeout(WINDOW_SECONDS * 1e3)
    try:
        started = time.perf_counter()
        page.goto(url + opening.path, wait_until="commit")
        page.locator(TITLE).first.wait_for(state="visible")
        page.locator(opening.content).first.wait_for(state="visible")
        return time.perf_counter() - started
    finally:
        page.close()


@contextmanager
def visitor(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that has seen nothing yet."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
    try:
        yield context
    finally:
        context.close()


def measure_warm(browser: Browser, url: str, opening: Opening, repeats: int) -> tuple[float, float]:
    """The medians of new browsers, and of one that was here before."""
    new = []
    for _ in range(repeats):
        with visitor(browser) as context:
            new.append(seconds_to_open(context, url, opening))
    with visitor(browser) as context:
        again = [seconds_to_open(context, url, opening) for _ in range(repeats + 1)][1:]
    return statistics.median(new), statistics.median(again)


def measure_first(browser: Browser, url: str, opening: Opening) -> float:
    """The first time that the server shows a page, to a browser that has seen nothing."""
    with visitor(browser) as context:
        return seconds_to_open(context, url, opening)


def measure_all(folder: Path, wanted: list[Opening], repeats: int) -> float:
    """Print a row for each page; the longest of all times."""
    longest = 0.0
    print(f"{'seconds until a page is seen':<30}{'first':>10}{'new':>10}{'again':>10}{'load':>10}")
    with sync_playwright() as playwright, served(folder) as dashboard:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        for number, opening in enumerate(wanted):
            first = measure_first(browser, dashboard.url, opening)
            if not number:
                time.sleep(SETTLING_SECONDS)
            new, again = measure_warm(browser, dashboard.url, opening, repeats)
            longest = max(longest, first, new, again)
            figures = "".join(f"{seconds:>10.2f}" for seconds in (first, new, again))
            print(f"{opening.name:<30}{figures}{os.getloadavg()[0]:>10.1f}", flush=True)
        browser.close()
    return longest


def prepare(folder: Path, runs: int, big_steps: int) -> Planted:
    """Write the workspace, and fill the index of runs as the collector does."""
    (folder / "workspace").mkdir()
    site = Site.open(str(folder / "workspace"))
    planted = plant(site, runs, 1000, big_steps)
    print(f"{runs + 1} runs with {planted.points:,} lines of metrics")
    for what in ("the index of runs, filled", "the index of runs, looked at again"):
        started = time.perf_counter()
        sync_runs(site)
        print(f"{what:<40}{(time.perf_counter() - started) * 1e3:>8.0f} ms")
    return planted


def main() -> int:
    """Measure, print, and say whether all is within the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--big-steps", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[], help="pages whose names begin so")
    options = parser.parse_args()
    where = machine()
    print(f"{where['processor']}, {where['cores']} cores, {datetime.now(UTC):%Y-%m-%d}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        planted = prepare(folder, options.runs, options.big_steps)
        wanted = [o for o in openings(planted) if o.name.startswith(tuple(options.only) or "")]
        longest = measure_all(folder, wanted, options.repeats)
    print(f"the longest: {longest:.2f} s, of {BAR_SECONDS} s allowed")
    return int(longest > BAR_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
