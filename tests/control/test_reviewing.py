"""The review queue as people use it: by the page's functions, and by the command over the same ones."""

import shlex

import pytest
from tests.cli.conftest import heliostat  # noqa: F401  a fixture
from tests.control.steered import OPERATOR

from heliostat.control.readings import Ok
from heliostat.control.review import (
    approve,
    decision_command,
    list_reviews,
    read_reviews,
    reject,
    show_review,
)
from heliostat.errors import ConfigError
from heliostat.serving.guard.review_queue import ReviewQueue
from heliostat.workspace import Workspace


@pytest.fixture
def place(tmp_path, monkeypatch) -> Workspace:
    monkeypatch.setenv("HELIOSTAT_WORKSPACE", str(tmp_path / "workspace"))
    return Workspace.resolve()


@pytest.fixture
def held(place) -> list[str]:
    queue = ReviewQueue(place.storage)
    texts = ("How are mirrors ground?", "<script>alert(1)</script>")
    return [queue.ask("acme", "bot", [text], ["rule"]).id for text in texts]


def test_what_waits_is_decided_once_and_by_a_name(place, held):
    assert [item.id for item in list_reviews(place)] == sorted(
        held, key=lambda each: (show_review(place, each).created, each)
    )
    assert approve(OPERATOR, place, held[0], "harmless").by == "otto"
    assert reject(OPERATOR, place, held[1][:12]).status == "rejected"
    with pytest.raises(ConfigError, match="a decision stays"):
        approve(OPERATOR, place, held[1])
    assert list_reviews(place) == []
    reading = read_reviews(place, None)
    assert isinstance(reading, Ok)
    assert {item.status for item in reading.value} == {"approved", "rejected"}


def test_each_decision_has_its_command(place, held):
    said = decision_command(place, "approve", held[0], "it is fine")
    where = shlex.join(["--workspace", place.storage.root])
    assert said == f"heliostat review approve {held[0][:12]} --reason 'it is fine' {where}"


def test_the_command_decides_over_the_same_functions(heliostat, place, held):  # noqa: F811
    done = heliostat("review", "approve", held[0], "--by", "rita")
    assert done.returncode == 0, done.stderr
    assert show_review(place, held[0]).by == "rita"
    assert held[1][:12] in heliostat("review", "list").stdout
    assert "script" in heliostat("review", "show", held[1]).stdout
