"""`heliostat alerts` in an empty folder, with alerts that a collector has opened."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from heliostat.control.alert_watch import READING, WatchState
from heliostat.control.alerts import Finding, find_alerts, settle
from heliostat.control.sites import Site

SINCE = datetime.now(UTC) - timedelta(minutes=5)
NAN = Finding(
    rule="NanLoss", subject="run/train-1", text="loss is nan", mend="lower learning_rate", since=SINCE
)


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    monkeypatch.setenv("HELIOSTAT_WORKSPACE", str(tmp_path / "workspace"))
    found = Site.open()
    found.store.put_reading(READING, WatchState().model_dump(mode="json"), datetime.now(UTC))
    settle(found.store, [NAN], datetime.now(UTC))
    return found


def test_open_alerts_are_printed_with_what_helps_and_the_runbook(heliostat, site):
    done = heliostat("alerts")
    assert (done.returncode, done.stderr) == (0, "")
    assert find_alerts(site.store)[0].id in done.stdout
    for words in ("NanLoss", "run/train-1", "loss is nan", "lower learning_rate", "RUNBOOK.md#nan-loss"):
        assert words in done.stdout


def test_alerts_that_are_over_are_printed_where_asked(heliostat, site):
    settle(site.store, [], datetime.now(UTC))
    assert heliostat("alerts").stdout == "No alerts.\n"
    assert "NanLoss" in heliostat("alerts", "--all").stdout


def test_json_is_nothing_but_json(heliostat, site):
    alert = json.loads(heliostat("alerts", "--json").stdout)[0]
    assert (alert["rule"], alert["until"]) == ("NanLoss", None)


def test_an_alert_is_acknowledged_by_its_id(heliostat, site):
    alert = find_alerts(site.store)[0]
    done = heliostat("alerts", "acknowledge", alert.id)
    assert done.returncode == 0
    assert find_alerts(site.store)[0].acknowledged_by in done.stdout


def test_the_workspace_may_stand_before_the_command_or_behind(heliostat, site, monkeypatch):
    monkeypatch.delenv("HELIOSTAT_WORKSPACE")
    place, alert = site.workspace.storage.root, find_alerts(site.store)[0]
    for words in (
        ("--workspace", place, "acknowledge", alert.id),
        ("acknowledge", alert.id, "--workspace", place),
    ):
        assert heliostat("alerts", *words).returncode == 0


def test_an_id_that_nobody_knows_ends_with_2_and_one_line(heliostat, site):
    done = heliostat("alerts", "acknowledge", "nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("heliostat: error: no alert 'nothing'")


def test_no_alerts_are_no_good_news_where_nobody_looks(heliostat, site):
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    site.store.put_reading(READING, WatchState().model_dump(mode="json"), long_ago)
    assert "nobody looks" in heliostat("alerts").stderr


def test_a_rule_that_could_not_look_is_said(heliostat, site):
    state = WatchState(notes=("NanLoss could not look at run/train-1: broken",))
    site.store.put_reading(READING, state.model_dump(mode="json"), datetime.now(UTC))
    assert "could not look at run/train-1" in heliostat("alerts").stderr
