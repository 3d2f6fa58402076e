"""The Alerts page, and alerts where they concern something: links, acknowledging, roles, what is over."""

import shutil
import sys
from datetime import UTC, datetime

import pytest
from pages import HOSTILE, JOB, ROOT, RUN, bring_into, open_page, setting, texts

from heliostat.control.alerts import find_alerts, settle
from heliostat.control.sites import Site

pytestmark = pytest.mark.heavy


@pytest.fixture
def site(tmp_path, empty_tracking_store, monkeypatch) -> Site:
    shutil.copy(empty_tracking_store, tmp_path)
    for name, value in setting(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    found = Site.open(str(tmp_path), "http://127.0.0.1:9")
    bring_into(found, "running")
    return found


def nan_of(site: Site):
    return next(each for each in find_alerts(site.store, open_only=False) if each.rule == "NanLoss")


def button(test, key: str):
    return next((each for each in test.button if each.key == key), None)


def test_an_operator_acknowledges_an_alert_by_its_id(site):
    alert, test = nan_of(site), open_page("alerts")
    button(test, f"alert_ack_{alert.id}").click().run()
    assert not test.exception
    assert nan_of(site).acknowledged_by is not None
    others = [each for each in find_alerts(site.store) if each.id != alert.id]
    assert {each.acknowledged_by for each in others} == {None}
    assert button(test, f"alert_ack_{alert.id}") is None


def test_a_viewer_sees_alerts_and_cannot_acknowledge(site, monkeypatch):
    monkeypatch.setenv("HELIOSTAT_DASHBOARD_ROLE", "viewer")
    test = open_page("alerts")
    assert button(test, f"alert_ack_{nan_of(site).id}").disabled


def test_an_alert_leads_to_its_run(site):
    test = open_page("alerts")
    button(test, f"alert_go_{nan_of(site).id}").click().run()
    assert not test.exception
    assert [title.value for title in test.title] == ["Run"]
    assert test.query_params["run"] in (RUN, [RUN])


def test_what_is_over_is_shown_where_asked(site):
    settle(site.store, [], datetime.now(UTC))
    assert any("Nothing is wrong" in text for text in texts(open_page("alerts")))
    shown = texts(open_page("alerts", {"show": "all"}))
    assert any("Loss is no number" in text for text in shown)


def test_a_page_that_nobody_feeds_says_so(site):
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    site.store.put_reading("alerts", {}, long_ago)
    assert any("Nobody has looked" in text for text in texts(open_page("alerts")))


def test_words_of_people_are_shown_as_they_are(site):
    test = open_page("alerts")
    assert any(HOSTILE.split()[0] in each.value for each in test.text)


@pytest.mark.parametrize("work", [JOB, RUN])
def test_a_runs_page_tells_the_alerts_about_it_and_no_others(site, work):
    warnings = [each.value for each in open_page("run", {"run": work}).warning]
    assert len([text for text in warnings if "Loss is no number" in text]) == 1
    assert not any("Cluster does not answer" in text for text in warnings)


def test_home_counts_the_open_alerts(site):
    tile = next(each for each in open_page("home").metric if each.label == "Open alerts")
    assert tile.value == "3"
