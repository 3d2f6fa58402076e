"""The pages on data, sweeps, evaluations and models, run as Streamlit runs them, over real artifacts."""

from pathlib import Path

import pytest
from pages import commands
from small_studies import Studied, add_all, add_sweep
from streamlit.testing.v1 import AppTest

from heliostat.control.models import list_versions, register_model, require_version
from heliostat.control.roles import Actor
from heliostat.locks import lock

VIEWS = Path(__file__).resolve().parents[2] / "dashboard" / "views"
ADMIN = Actor("ad", "admin")
PAGES = ("data", "sweeps", "evaluations", "models")
pytestmark = pytest.mark.heavy


@pytest.fixture
def studied(workspace, tmp_path, monkeypatch) -> Studied:
    monkeypatch.setenv("HELIOSTAT_STRICT_WORDS", "1")
    monkeypatch.setenv("HELIOSTAT_WORKSPACE", workspace.storage.root)
    return add_all(workspace, tmp_path)


def open_page(name: str, language: str = "en", **query: str) -> AppTest:
    page = AppTest.from_file(str(VIEWS / f"{name}.py"), default_timeout=60)
    page.session_state["language"] = language
    for key, value in query.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception, page.exception[0].message
    return page


def said(page: AppTest) -> str:
    parts = (
        page.title,
        page.subheader,
        page.markdown,
        page.text,
        page.caption,
        page.code,
        page.info,
        page.error,
    )
    return "\n".join(str(each.value) for kind in parts for each in kind)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", PAGES)
def test_an_empty_workspace_says_why_and_what_to_do(workspace, monkeypatch, name, language):
    monkeypatch.setenv("HELIOSTAT_STRICT_WORDS", "1")
    monkeypatch.setenv("HELIOSTAT_WORKSPACE", workspace.storage.root)
    page = open_page(name, language)
    assert "heliostat run" in said(page)
    assert not page.dataframe


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_part_of_every_page_is_drawn(studied, language):
    reference = register_model(ADMIN, studied.workspace, studied.good.id, "quiz").reference
    details = {
        "data": ("dataset", studied.dataset.id),
        "sweeps": ("sweep", studied.sweep),
        "models": ("model", reference),
        "evaluations": ("", ""),
    }
    parts = {
        "data": ("overview", "documents", "lengths", "duplicates", "tokens", "config"),
        "sweeps": ("overview", "parallel", "curves", "trials"),
        "evaluations": ("leaderboard", "examples", "compare", "reports"),
        "models": ("overview", "lineage", "card", "history"),
    }
    for name in PAGES:
        assert open_page(name, language).title
        key, value = details[name]
        for part in parts[name]:
            query = {"tab": part} | ({key: value} if key else {})
            page = open_page(name, language, **query)
            assert said(page)


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("data", {"dataset": "dataset-x"}),
        ("sweeps", {"sweep": "tune-x"}),
        ("models", {"model": "quiz@v9.0.0"}),
    ],
)
def test_what_is_not_there_is_said_and_leads_back(studied, name, query):
    page = open_page(name, **query)
    told = said(page) + "\n".join(str(each.value) for each in page.warning)
    assert next(iter(query.values())).partition("@")[0] in told.replace("\\", "")
    page.button(key="back").click().run()
    assert not page.exception
    assert not page.query_params


def test_documents_are_narrowed_down_by_the_address(studied):
    page = open_page("data", dataset=studied.dataset.id, tab="documents", reason="near_duplicate")
    assert "1–1 of 1" in said(page)
    page = open_page("data", dataset=studied.dataset.id, tab="documents", state="changed")
    assert "pii: email" in said(page)


def test_a_document_is_never_taken_for_markup(studied):
    page = open_page("data", dataset=studied.dataset.id, tab="documents", reason="too_short")
    assert [each.value for each in page.text if each.value == "Short."]


def test_a_running_sweep_is_drawn_while_it_runs(studied):
    key = "ef" * 32
    sweep = add_sweep(studied.workspace, "running", key)
    with lock(studied.workspace.storage, studied.workspace.path("report", "rates", key)):
        page = open_page("sweeps", sweep=sweep)
    assert [metric.value for metric in page.metric if metric.label == "Running"] == ["1"]


def test_a_version_is_promoted_after_its_evaluation_was_shown(studied):
    reference = register_model(ADMIN, studied.workspace, studied.good.id, "quiz").reference
    page = open_page("models", model=reference)
    next(button for button in page.button if button.label == "Promote").click().run()
    assert not page.exception
    assert any("heliostat models promote quiz@v0.1.0 --to staging" in each for each in commands(page))
    dialog = AppTest.from_function(the_dialog, default_timeout=60).run()
    dialog.button(key="promote_yes").click().run()
    assert not dialog.exception
    assert require_version(studied.workspace, reference).aliases == ("candidate", "staging")


def the_dialog():
    """A page that is nothing but the dialog, since the test's runner does not draw a dialog alone."""
    from dashboard.parts.promoting import ask_to_promote

    ask_to_promote("quiz@v0.1.0")


def test_a_viewer_may_look_and_not_touch(studied, monkeypatch):
    reference = register_model(ADMIN, studied.workspace, studied.good.id, "quiz").reference
    monkeypatch.setenv("HELIOSTAT_DASHBOARD_ROLE", "viewer")
    page = open_page("models", model=reference)
    acting = [button for button in page.button if button.label in ("Promote", "Roll candidate back")]
    assert len(acting) == 2
    assert all(button.disabled for button in acting)
    assert len(list_versions(studied.workspace).versions) == 1
