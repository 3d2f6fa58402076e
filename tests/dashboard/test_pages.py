"""Every page in every state: it opens, says something, and takes no text of a person for markup."""

import ast
import shutil
import sys

import pytest
from pages import HOSTILE, JOB, ROOT, RUN, STATES, VIEWS, bring_into, commands, open_page, setting, texts

from heliostat.control.sites import Site

QUERIES = {"run": {"run": JOB}, "compare": {"runs": RUN}}
MARKUP = ("<script>", "](javascript", ":red[red]", "**bold**")


@pytest.fixture(scope="session")
def states(tmp_path_factory, empty_tracking_store):
    """A workspace for each state, written once."""
    folders = {}
    for state in STATES:
        folders[state] = tmp_path_factory.mktemp(state)
        shutil.copy(empty_tracking_store, folders[state])
        bring_into(Site.open(str(folders[state]), "http://127.0.0.1:9"), state)
    return folders


@pytest.fixture
def in_state(states, monkeypatch, request):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    for name, value in setting(states[request.param]).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    return request.param


@pytest.mark.heavy
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("in_state", STATES, indirect=True)
def test_a_page_opens_in_every_state_and_says_something(view, in_state):
    test = open_page(view, QUERIES.get(view), "zh" if in_state == "ray_down" else "en")
    assert not test.exception, [each.value for each in test.exception]
    assert [title.value for title in test.title]
    assert "This is a fault of Heliostat's" not in " ".join(texts(test))
    for text in texts(test):
        assert not [mark for mark in MARKUP if mark in text], text


@pytest.mark.heavy
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("in_state", ["empty"], indirect=True)
def test_an_id_that_nobody_has_is_told_and_no_fault(view, in_state):
    unknown = dict.fromkeys(("run", "runs", "dataset", "sweep", "endpoint", "model"), "../../etc/passwd")
    test = open_page(view, unknown)
    assert not test.exception, [each.value for each in test.exception]
    assert "This is a fault of Heliostat's" not in " ".join(texts(test))


@pytest.mark.heavy
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("in_state", ["empty", "running"], indirect=True)
def test_a_shown_command_names_the_workspace_that_the_page_shows(view, in_state, states):
    test = open_page(view, QUERIES.get(view))
    of_cluster = "heliostat cluster status"  # takes no workspace
    for command in commands(test):
        assert command.startswith(of_cluster) or f"--workspace {states[in_state]}" in command


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("language", "says"), [("en", "New jobs wait in the queue"), ("zh", "新任务会在队列中等待")]
)
@pytest.mark.parametrize("in_state", ["ray_down"], indirect=True)
def test_where_the_cluster_is_away_a_page_says_what_becomes_of_a_new_job(in_state, language, says):
    assert says in " ".join(texts(open_page("runs", language=language)))


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_draws_and_leaves_the_work_to_control(view):
    tree = ast.parse((ROOT / "dashboard" / "views" / f"{view}.py").read_text())
    roots = {name.partition(".")[0] for name in _imports(tree)}
    assert not roots & {"ray", "torch", "transformers", "mlflow", "sqlalchemy", "httpx", "requests"}


def _imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


def test_the_hostile_name_is_hostile():
    assert all(mark in HOSTILE for mark in MARKUP)
