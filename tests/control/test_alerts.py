"""Alerts from cause to end: what the collector opens, keeps and closes, and who may acknowledge."""

import logging
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from watched import notes_of, now, put_run, rules_of, turn

from heliostat.control import webhook
from heliostat.control.alert_watch import READING, AlertWatch, read_watch
from heliostat.control.alerts import (
    RUNBOOK,
    Blind,
    Finding,
    acknowledge,
    drop_old_alerts,
    find_alerts,
    read_alerts,
    ripen,
    settle,
    subject_of,
)
from heliostat.control.collector import Collector
from heliostat.control.job_records import JobRecord, add_job, change_job
from heliostat.control.readings import Unavailable
from heliostat.control.roles import Actor
from heliostat.control.sites import Site
from heliostat.control.store import Store
from heliostat.errors import AccessError, ConfigError
from heliostat.job_folder import log_path
from heliostat.records import Provenance

OPERATOR, VIEWER = Actor("ada", "operator"), Actor("vic", "viewer")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    monkeypatch.delenv(webhook.VARIABLE, raising=False)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    (tmp_path / "workspace").mkdir()
    return Site.open(str(tmp_path / "workspace"))


def a_finding(since: datetime | None = None, **changes) -> Finding:
    values = {"rule": "NanLoss", "subject": "run/train-1", "text": "nan", "mend": "lower it", "since": since}
    return Finding(**values | changes)


def test_an_alert_opens_once_and_closes_by_itself_when_its_cause_is_gone(site):
    at = now()
    assert [change.event for change in settle(site.store, [a_finding(at)], at)] == ["opened"]
    assert settle(site.store, [a_finding(at)], at) == ()
    later = at + timedelta(seconds=9)
    closed = settle(site.store, [], later)
    assert [(change.event, change.alert.until) for change in closed] == [("closed", later)]
    assert find_alerts(site.store) == ()
    assert find_alerts(site.store, open_only=False)[0].until == later


def test_a_cause_that_comes_back_with_the_same_beginning_is_no_new_alert(site):
    at = now()
    settle(site.store, [a_finding(at)], at)
    settle(site.store, [], at)
    assert settle(site.store, [a_finding(at)], at) == ()
    assert len(find_alerts(site.store)) == 1
    assert [c.event for c in settle(site.store, [a_finding(at + timedelta(seconds=2))], at)] == [
        "opened",
        "closed",
    ]


def test_what_could_not_be_looked_at_is_not_closed(site):
    at = now()
    settle(site.store, [a_finding(at), a_finding(at, subject="run/train-2")], at)
    assert settle(site.store, [], at, Blind(rules=frozenset(["NanLoss"]))) == ()
    closed = settle(site.store, [], at, Blind(subjects=frozenset(["run/train-2"])))
    assert [change.alert.subject for change in closed] == ["run/train-1"]


def test_an_open_alert_says_the_newest_words(site):
    at = now()
    settle(site.store, [a_finding(at)], at)
    settle(site.store, [a_finding(at, text="91 % full")], at)
    assert find_alerts(site.store)[0].text == "91 % full"


def test_the_newest_alert_comes_first(site):
    at = now()
    found = [a_finding(at - timedelta(hours=hours), subject=f"run/{hours}") for hours in (1, 3, 2)]
    settle(site.store, found, at)
    assert [alert.name for alert in find_alerts(site.store)] == ["1", "2", "3"]


def test_a_cause_without_a_time_counts_from_when_it_was_seen_first(site):
    at = now()
    wait = a_finding(after_seconds=60)
    ripe, seen = ripen([wait], (), {}, at)
    assert ripe == []
    later = at + timedelta(seconds=61)
    ripe, seen = ripen([wait], (), seen, later)
    assert abs((ripe[0].since - at).total_seconds()) < 0.001
    settle(site.store, ripe, later)
    # What was seen is lost, as with another version's note: the open alert still tells since when.
    ripe, _ = ripen([wait], find_alerts(site.store), {}, later)
    assert settle(site.store, ripe, later) == ()
    assert ripen([], (), seen, later) == ([], {})


def test_between_two_thresholds_an_alert_stays_and_none_opens(site):
    at = now()
    between = a_finding(opens=False)
    assert ripen([between], (), {}, at) == ([], {})
    settle(site.store, ripen([a_finding()], (), {}, at)[0], at)
    ripe, _ = ripen([between], find_alerts(site.store), {}, at + timedelta(seconds=5))
    assert settle(site.store, ripe, at) == ()
    assert len(find_alerts(site.store)) == 1


def test_an_operator_acknowledges_and_the_first_one_counts(site):
    settle(site.store, [a_finding(now())], now())
    alert = find_alerts(site.store)[0]
    assert acknowledge(site, OPERATOR, alert.id).acknowledged_by == "ada"
    assert acknowledge(site, Actor("bob", "admin"), alert.id).acknowledged_by == "ada"
    assert len(find_alerts(site.store)) == 1


def test_a_viewer_may_not_acknowledge(site):
    settle(site.store, [a_finding(now())], now())
    alert = find_alerts(site.store)[0]
    with pytest.raises(AccessError, match="vic is a viewer"):
        acknowledge(site, VIEWER, alert.id)
    assert find_alerts(site.store)[0].acknowledged_by is None


def test_an_alert_that_nobody_knows_is_the_persons_mistake(site):
    with pytest.raises(ConfigError, match="heliostat alerts --all"):
        acknowledge(site, OPERATOR, "'; drop table heliostat_alerts; --")


def test_what_people_wrote_is_kept_so_that_every_database_and_terminal_takes_it(site):
    worst = "a\x00b \ud800 \u202e\x1b[31m\r\n<b>" + "x" * 5000
    settle(site.store, [a_finding(now(), text=worst, subject=subject_of("job", "j" * 900))], now())
    alert = find_alerts(site.store)[0]
    assert len(alert.text) == 2000
    assert not [sign for sign in alert.text if not sign.isprintable()]
    assert "<b>" in alert.text
    assert len(alert.subject) == 255


def test_a_database_that_is_away_is_a_reading_and_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    assert isinstance(read_alerts(Store(f"sqlite:///{tmp_path}/file/control.db")), Unavailable)


def test_alerts_that_were_over_long_ago_are_forgotten_and_open_ones_never(site):
    at = now()
    settle(site.store, [a_finding(at), a_finding(at, subject="run/2")], at)
    settle(site.store, [a_finding(at)], at)
    drop_old_alerts(site.store, at + timedelta(days=1))
    assert [alert.subject for alert in find_alerts(site.store, open_only=False)] == ["run/train-1"]


def test_a_run_with_a_nan_is_told_by_the_collector_and_no_more_when_it_has_gone_on(site):
    put_run(site, [3.0, float("nan")])
    collector = Collector(site)
    collector.work_once()
    assert rules_of(site) == ["NanLoss"]
    put_run(site, [3.0, 2.9, 2.8])
    turn(site)
    assert rules_of(site) == []
    assert rules_of(site, open_only=False) == ["NanLoss"]


def test_a_collector_that_takes_over_opens_nothing_again(site):
    put_run(site, [3.0, float("nan")])
    turn(site)
    opened = find_alerts(site.store)
    turn(site)
    assert find_alerts(site.store) == opened


def test_a_wait_goes_on_counting_when_another_collector_takes_over(site):
    place = Site(site.workspace, site.store, "http://127.0.0.1:9")
    put_waiting(place)
    turn(place)
    assert rules_of(place) == []
    state = read_watch(place.store).value
    assert [key for key in state.seen if key.startswith("WorkPendsForLong")]
    long_ago = {key: at - 3600 for key, at in state.seen.items()}
    place.store.put_reading(READING, state.model_dump(mode="json") | {"seen": long_ago}, now())
    turn(place)
    assert rules_of(place) == ["WorkPendsForLong"]


def put_waiting(site: Site) -> None:
    waiting = {
        "kind": "task or actor", "bundles": [{"CPU": 4}], "strategy": "", "count": 1, "reason": "busy",
        "why": "full",
    }  # fmt: skip
    demand = {
        "at": None, "autoscaler": False, "waiting": [waiting], "node_types": [], "used": {}, "failures": [],
        "events": [], "error": "",
    }  # fmt: skip
    for name, value in (("demand", demand), ("nodes", []), ("holders", []), ("jobs", "2.60.0")):
        site.store.put_reading(name, value, now())


def test_a_wait_is_not_forgotten_while_the_demand_cannot_be_read(site):
    place = Site(site.workspace, site.store, "http://127.0.0.1:9")
    put_waiting(place)
    turn(place)
    before = read_watch(place.store).value.seen
    place.store.put_reading("demand", {"of": "another version"}, now())
    turn(place)
    assert read_watch(place.store).value.seen == before
    assert "WorkPendsForLong could not look" in notes_of(place)


def test_a_run_whose_files_are_broken_hides_no_other_and_is_said(site, caplog):
    put_run(site, [3.0, float("nan")], "train-2")
    folder = put_run(site, [3.0], "train-1")
    (folder / "findings.jsonl").write_text('{"of": "another version"}\n')
    with caplog.at_level(logging.WARNING):
        turn(site)
    assert rules_of(site) == ["NanLoss"]
    assert "could not look at run/train-1" in notes_of(site)
    assert "could not look at run/train-1" in caplog.text


def test_a_broken_note_closes_no_alert_of_its_run(site):
    folder = put_run(site, [3.0, float("nan")])
    turn(site)
    (folder / "findings.jsonl").write_text("[1]\n")
    turn(site)
    assert rules_of(site) == ["NanLoss"]


def test_a_note_that_is_being_written_is_left_for_the_next_time(site):
    folder = put_run(site, [3.0])
    (folder / "findings.jsonl").write_text('{"kind": "loss_sp')
    turn(site)
    assert notes_of(site) == ""


def test_the_files_of_a_run_that_has_ended_are_asked_for_once_until_it_goes_on(site):
    watch, ended = AlertWatch(), {"status": "failed", "error": "x", "finished_at": now()}
    folder = put_run(site, [3.0], **ended)
    turn(site, watch)
    (folder / "findings.jsonl").write_text("[1]\n")
    turn(site, watch)
    assert notes_of(site) == ""
    put_run(site, [3.0])
    turn(site, watch)
    assert "could not look at run/train-1" in notes_of(site)


def test_the_files_of_a_trial_that_has_ended_are_not_asked_for(site):
    folder = put_run(site, [3.0], status="stopped", parent="tune-1", finished_at=now())
    (folder / "findings.jsonl").write_text("[1]\n")
    turn(site)
    assert notes_of(site) == ""


def put_job(site: Site, job_id: str, **changes) -> None:
    values = {"name": "n", "project": "", "user": "ada", "state": "FAILED", "reason": "exit code 1"}
    at = dict.fromkeys(("created_at", "changed_at", "ended_at"), now() - timedelta(seconds=20))
    add_job(site.store, JobRecord(id=job_id, **values | at | changes), "put there")


def test_a_failed_job_is_told_with_the_error_of_its_log_until_it_is_handed_in_again(site):
    put_job(site, "job-1")
    site.workspace.storage.write_bytes(log_path("job-1"), b"heliostat: error: rows.jsonl: no such file\n")
    turn(site)
    assert rules_of(site) == ["JobFailed"]
    assert any("rows.jsonl: no such file" in alert.text for alert in find_alerts(site.store))
    put_job(site, "job-2", state="QUEUED", parent="job-1", relation="retry", ended_at=None)
    turn(site)
    assert rules_of(site) == []


def test_an_end_is_told_when_all_that_is_known_of_it_is_noted(site):
    put_job(site, "job-1", ended_at=now())
    turn(site)
    assert rules_of(site) == []


def test_a_job_whose_run_failed_is_one_alert_and_not_two(site):
    provenance = Provenance.collect().model_copy(update={"ray_job_id": "job-1"})
    put_job(site, "job-1", state="RUNNING", ended_at=None)
    put_run(site, [3.0], provenance=provenance)
    change_job(site.store, "job-1", state="FAILED", reason="killed", ended_at=now() - timedelta(seconds=20))
    turn(site)
    assert rules_of(site) == ["TrainingFailed"]


def test_a_job_is_not_told_in_its_runs_place_while_the_runs_files_cannot_be_read(site):
    provenance = Provenance.collect().model_copy(update={"ray_job_id": "job-1"})
    put_job(site, "job-1")
    ended = now() - timedelta(seconds=20)
    folder = put_run(site, [3.0], status="failed", error="x", finished_at=ended, provenance=provenance)
    turn(site)
    assert rules_of(site) == ["TrainingFailed"]
    (folder / "findings.jsonl").write_text("[1]\n")
    turn(site)
    assert rules_of(site, open_only=False) == ["TrainingFailed"]


def test_what_failed_long_ago_is_no_news(site):
    long_ago = now() - timedelta(days=2)
    put_job(site, "job-1", changed_at=long_ago, ended_at=long_ago)
    put_run(site, [3.0], status="failed", error="x", finished_at=long_ago)
    turn(site)
    assert rules_of(site) == []


def test_every_rule_has_a_section_of_the_runbook_or_none():
    sections = {
        line[3:].strip().lower().replace(" ", "-")
        for line in (ROOT / "cluster" / "RUNBOOK.md").read_text().splitlines()
        if line.startswith("## ")
    }
    assert {section for section in RUNBOOK.values() if section} <= sections
