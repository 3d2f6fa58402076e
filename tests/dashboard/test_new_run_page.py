"""The page that starts a run, in each of its states."""

import pytest
from dashboard.words import FOLDER
from streamlit.testing.v1 import AppTest

from heliostat.control.job_records import job_of
from heliostat.control.jobs import submit_text
from heliostat.control.presets import preset_of
from heliostat.control.roles import Actor
from heliostat.control.sites import Site

PAGE = FOLDER.parent / "views" / "new_run.py"
NASTY = "<img src=x onerror=alert(1)>**bold**"
AWAY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Site:
    monkeypatch.setenv("HELIOSTAT_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("HELIOSTAT_STRICT_WORDS", "1")
    for name in ("HELIOSTAT_ADDRESS", "RAY_API_SERVER_ADDRESS", "HELIOSTAT_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    return Site.open(str(tmp_path / "workspace"))


def opened(**query: str | list[str]) -> AppTest:
    page = AppTest.from_file(str(PAGE), default_timeout=60)
    for key, value in query.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception
    return page


def start(page: AppTest):
    return page.button(key="new_run_start")


def test_without_a_goal_there_are_cards():
    page = opened()
    page.button(key="choose_clean").click().run()
    assert not page.exception
    assert page.query_params["preset"] == "clean"
    assert not start(page).disabled


@pytest.mark.parametrize("preset", ["one_minute", "dpo", "deploy", "evaluate_tasks", "pretrain_moe"])
def test_a_goal_is_ready_to_start(preset):
    assert not start(opened(preset=preset)).disabled


def test_what_is_typed_is_in_the_address_and_a_reload_finds_it():
    page = opened(preset="one_minute")
    next(box for box in page.number_input if box.label == "Steps").set_value(7).run()
    assert page.query_params["set"] in ("train.max_steps=7", ["train.max_steps=7"])
    again = opened(preset="one_minute", set=["train.max_steps=7"])
    assert next(box for box in again.number_input if box.label == "Steps").value == 7
    assert any("+  max_steps: 7" in each.value for each in again.code)


def test_a_wrong_value_is_said_below_its_field_and_nothing_can_be_started():
    page = opened(preset="one_minute")
    next(box for box in page.number_input if box.label == "Workers").set_value(0).run()
    assert not page.exception
    assert start(page).disabled
    assert any(each.value.startswith(":red[") for each in page.caption)


def test_lines_that_mean_nothing_stop_it_and_are_shown_as_they_are():
    page = opened(preset="one_minute", set=[NASTY, "train.max_steps=99999999999999999999999"])
    assert start(page).disabled
    assert not any("<img" in each.value for each in (*page.markdown, *page.caption, *page.error))


def test_hints_of_other_pages_become_changes():
    page = opened(preset="quickstart", model="chat@production", dataset="/data/rows.jsonl")
    changes = page.query_params["set"]
    assert changes == ["model=chat@production", "data.sources=[{kind: jsonl, path: /data/rows.jsonl}]"]
    assert "model" not in page.query_params


def test_an_unknown_preset_says_which_there_are():
    page = opened(preset=NASTY)
    assert "one\\_minute" in page.error[0].value
    assert page.button(key="choose_one_minute")


def test_a_viewer_sees_why_nothing_can_be_started(monkeypatch):
    monkeypatch.setenv("HELIOSTAT_DASHBOARD_ROLE", "viewer")
    page = opened(preset="one_minute")
    assert start(page).disabled
    assert "operator" in page.info[0].value


def test_all_settings_are_there_when_asked_for():
    page = opened(preset="one_minute")
    page.toggle(key="new_run_all").set_value(True).run()
    assert not page.exception
    assert page.button(key="new_run_take_over").disabled


def test_a_clone_begins_with_its_job_and_shows_what_was_changed(place):
    site = Site(place.workspace, place.store, AWAY)
    preset = preset_of("clean")
    job = submit_text(site, Actor("ada", "operator"), preset.key, preset.text)
    page = opened(clone=job.id, set=["name=other"])
    assert any("-name: clean" in each.value for each in page.code)
    assert not start(page).disabled


def test_a_start_with_the_cluster_away_waits_in_the_queue_and_says_why(place):
    site = Site(place.workspace, place.store, AWAY)
    preset = preset_of("clean")
    job = submit_text(site, Actor("ada", "operator"), preset.key, preset.text)
    kept = job_of(place.store, job.id)
    assert kept.state == "QUEUED"
    assert kept.reason


def test_it_speaks_chinese():
    assert opened(lang="zh").button(key="choose_clean").label == "从这里开始"


def test_what_must_be_mended_stands_open_and_the_rest_is_folded(monkeypatch):
    monkeypatch.setenv("HELIOSTAT_ADDRESS", AWAY)
    page = opened(preset="one_minute")
    (folded,) = (box for box in page.expander if box.label.endswith("with nothing to mend"))
    inside = [each.value for each in folded.markdown]
    assert len(inside) > 5
    assert int(folded.label.split()[0]) == len(inside)
    (refused,) = (
        each.value for each in page.markdown if "**cluster** no Ray dashboard answers" in each.value
    )
    assert refused not in inside
