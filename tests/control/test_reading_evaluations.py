"""The leaderboard, single examples and two models side by side, read from reports."""

import pytest
from small_studies import add_report, add_sweep
from versions.small_records import publish_small

from heliostat.control.evaluations import (
    best_in,
    browse_examples,
    compare_models,
    leaderboard,
    list_reports,
    show_report,
    text_of,
)
from heliostat.errors import ArtifactError
from heliostat.storage import Storage
from heliostat.workspace import Workspace


@pytest.fixture
def place(tmp_path) -> Workspace:
    return Workspace(Storage.at(tmp_path))


def test_the_leaderboard_holds_each_models_latest_score(place):
    base, tuned = publish_small(place, "base"), publish_small(place, "tuned")
    add_report(place, "first", {"base": (base, set(range(20))), "tuned": (tuned, {1})})
    add_sweep(place)  # whose report is no evaluation
    board = leaderboard(place)
    assert [task.label for task in board.tasks] == ["quiz/acc"]
    scores = {row.id: row.scores["quiz/acc"] for row in board.contenders}
    assert (scores[base.id].value, scores[tuned.id].value) == (0.5, 0.975)
    assert scores[base.id].low < 0.5 < scores[base.id].high
    assert scores[base.id].num_examples == 40
    assert {row.name for row in board.contenders} == {"base", "tuned"}
    assert [row.id for row in best_in(board, board.tasks[0])] == [tuned.id]


def test_what_asked_something_else_is_a_column_of_its_own(place):
    base = publish_small(place, "base")
    add_report(place, "first", {"base": (base, set())})
    add_report(place, "second", {"base": (base, {1})}, asked="another quiz")
    board = leaderboard(place)
    assert sorted(task.label for task in board.tasks) == ["quiz/acc", "quiz/acc #2"]
    assert len(board.contenders) == 1


def test_two_that_overlap_both_lead(place):
    one, two = publish_small(place, "one"), publish_small(place, "two")
    add_report(place, "r", {"one": (one, {1, 2}), "two": (two, {3})})
    board = leaderboard(place)
    assert len(best_in(board, board.tasks[0])) == 2


def test_examples_come_worst_first_and_in_pages(place):
    base = publish_small(place, "base")
    report = add_report(place, "r", {"base": (base, {5, 6, 30})})
    where = (report.id, "base", "quiz")
    worst = browse_examples(place, where, "acc", "worst", (1, 3))
    assert {example.id for example in worst.examples} == {"5", "6", "30"}
    assert {example.output for example in worst.examples} == {"?"}
    assert (worst.total, worst.pages) == (40, 14)
    best = browse_examples(place, where, "acc", "best", (14, 3))
    assert [example.value for example in best.examples] == [0.0]
    asked = browse_examples(place, where, "acc", "file", (2, 3))
    assert [example.id for example in asked.examples] == ["3", "4", "5"]


def test_two_models_are_compared_over_the_same_examples(place):
    one, two = publish_small(place, "one"), publish_small(place, "two")
    a = add_report(place, "a", {"old": (one, set(range(20)))})
    b = add_report(place, "b", {"new": (two, {0})})
    found = compare_models(place, (a.id, "old"), (b.id, "new"))
    (metric,) = found.metrics
    assert (metric.wins, metric.losses) == (19, 0)
    assert metric.p_value < 0.01
    assert found.differences[0].a.output == "?"
    assert found.differences[0].b.output == found.differences[0].b.target


def test_what_is_not_there_is_named(place):
    base = publish_small(place, "base")
    report = add_report(place, "r", {"base": (base, set())})
    assert show_report(place, report.id).suites == {"quiz": ("acc",)}
    assert [each.id for each in list_reports(place)] == [report.id]
    with pytest.raises(ArtifactError, match=f"report-x: no such evaluation report.*{report.id}"):
        show_report(place, "report-x")
    with pytest.raises(ArtifactError, match="no examples of 'tuned'"):
        browse_examples(place, (report.id, "tuned", "quiz"))


def test_messages_are_shown_with_their_roles():
    messages = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": None}]
    assert text_of(messages) == "user: Why?\nassistant: "
    assert text_of(None) == ""
    assert text_of(3) == "3"
