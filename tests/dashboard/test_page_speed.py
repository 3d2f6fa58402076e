"""What the dashboard's own work on a page takes, with 1,000 runs and 1,000,000 lines of metrics on record.

The browser's part comes on top: `make bench-dashboard` has both, in a real Chromium.
"""

import sys
import time

import pytest
from pages import ROOT, open_page, setting
from tests.bench.dashboard_benchmark import BAR_SECONDS, openings
from tests.bench.dashboard_workspace import plant

from heliostat.control.run_index import sync_runs
from heliostat.control.sites import Site

pytestmark = [pytest.mark.slow, pytest.mark.heavy]
RUNS, STEPS, STEPS_OF_THE_BIG = 1000, 1000, 100_000
REPEATS = 2
"""The first time is the server's, which imports; everybody else has the second."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory, empty_tracking_store):
    folder = tmp_path_factory.mktemp("thousand")
    site = Site.open(str(folder / "workspace"), "http://127.0.0.1:9")
    found = plant(site, RUNS, STEPS, STEPS_OF_THE_BIG)
    sync_runs(site)
    return folder / "workspace", found


@pytest.mark.timeout(600)
def test_every_page_is_made_in_time_with_a_thousand_runs(planted, monkeypatch):
    folder, found = planted
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    for name, value in setting(folder).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    took = {}
    for each in openings(found):
        for _ in range(REPEATS):
            test = open_page("home")
            started = time.perf_counter()
            test.query_params.clear()
            for name, value in {"lang": "en", **each.query}.items():
                test.query_params[name] = value
            if each.view != "home":
                test.switch_page(f"views/{each.view}.py")
            test.run()
            took[each.name] = time.perf_counter() - started
        assert test.title, each.name
        assert not test.exception, (each.name, [fault.value for fault in test.exception])
    for name, seconds in took.items():
        print(f"{name:<24}{seconds:>8.2f} s")
    assert {name: seconds for name, seconds in took.items() if seconds > BAR_SECONDS} == {}
