"""Reports compared: what matches what, and what is refused."""

import hashlib
import math
from typing import Any

import pytest

from heliostat.errors import ArtifactError, EvaluationError
from heliostat.evaluation.comparison import (
    MetricComparison,
    compare_reports,
    disagreements,
    find_report,
    paired_suites,
)
from heliostat.evaluation.examples import Example
from heliostat.evaluation.gate import check_gate
from heliostat.evaluation.report import scores_of, write_report
from heliostat.records import Artifact
from heliostat.storage import publish, staging

NAME = "r"


def right(count: int, wrong: set[int] = frozenset()) -> list[Example]:
    return [
        Example(id=str(each), scores={"acc": float(each not in wrong)}, prompt=f"q{each}", output="x")
        for each in range(count)
    ]


def report(workspace, models: dict[str, dict[str, list[Example]]], name: str = NAME, asked: Any = "same"):
    key = hashlib.sha256(name.encode()).hexdigest()
    facts = {
        "models": dict.fromkeys(models, "model-1"),
        "suites": {suite: asked for suites in models.values() for suite in suites},
        "scores": {
            model: {suite: scores_of(each) for suite, each in suites.items()}
            for model, suites in models.items()
        },
    }
    with staging(workspace.storage, workspace.path("report", name, key)) as publication:
        publication.facts.update(facts)
        write_report(publication.folder, name, facts, models)
        return publish(publication, "report", key, {})


def test_wins_losses_and_examples_are_those_that_differ(workspace):
    a = report(workspace, {"base": {"quiz": right(40)}}, "a")
    b = report(workspace, {"tuned": {"quiz": right(40, wrong=set(range(0, 24, 2)))}}, "b")
    (found,) = compare_reports(a, b)
    assert (found.suite, found.metric, found.value_a, found.value_b) == ("quiz", "acc", 1, 0.7)
    assert (found.wins, found.losses, found.ties) == (0, 12, 28)
    assert found.p_value < 0.01
    assert found.worse_by == pytest.approx(0.3)
    assert found.low < -0.3 < found.high < 0
    (pairs,) = paired_suites(a, b)
    assert {each.id for each in disagreements(pairs, "acc", 100)} == {str(at) for at in range(0, 24, 2)}


def test_two_models_of_one_report_can_be_compared(workspace):
    both = report(workspace, {"base": {"quiz": right(9)}, "tuned": {"quiz": right(9, wrong={1})}})
    (found,) = compare_reports(both, both, "base", "tuned")
    assert (found.wins, found.losses) == (0, 1)
    with pytest.raises(ArtifactError, match=r"is of several models \(base, tuned\); say which"):
        compare_reports(both, both)
    with pytest.raises(ArtifactError, match="has no model 'int8'; it has: base, tuned"):
        compare_reports(both, both, "base", "int8")


def test_what_was_asked_otherwise_is_not_compared(workspace):
    a = report(workspace, {"base": {"quiz": right(9)}}, "a")
    b = report(workspace, {"base": {"quiz": right(9)}}, "b", asked="other data")
    with pytest.raises(ArtifactError, match="share no suite that asked the same") as caught:
        compare_reports(a, b)
    assert "\n" not in str(caught.value)


def test_losses_of_other_tokens_are_not_compared_but_losses_by_word_are(workspace):
    def losses(tokens: float) -> list[Example]:
        scores = {"perplexity": [50.0, tokens], "word_perplexity": [50.0, 12.0]}
        return [Example(id=str(each), scores=scores) for each in range(9)]

    a, b = (
        report(workspace, {"m": {"text": losses(20)}}, "a"),
        report(workspace, {"m": {"text": losses(30)}}, "b"),
    )
    assert [each.metric for each in compare_reports(a, b)] == ["word_perplexity"]


def test_a_report_is_found_by_id_name_and_path(workspace):
    made = report(workspace, {"base": {"quiz": right(3)}})
    for given in (made.id, made.uri.rpartition("/")[2], made.uri):
        assert find_report(given, workspace).content == made.content
    with pytest.raises(ArtifactError, match=r"nothing: no such report in .*; it has: r-"):
        find_report("nothing", workspace)


def test_a_report_whose_examples_are_gone_is_one_line(workspace):
    made = report(workspace, {"base": {"quiz": right(3)}})
    workspace.storage.delete(f"reports/{made.uri.rpartition('/')[2]}/examples")
    with pytest.raises(ArtifactError, match=r"cannot be read .*evaluate the model again") as caught:
        compare_reports(made, made)
    assert "\n" not in str(caught.value)


def comparison(a: float, b: float, higher: bool = True, metric: str = "acc") -> MetricComparison:
    return MetricComparison("quiz", metric, higher, a, b, b - a, 0, 0, 0.5, 0, 0, 9, 9)


def test_the_gate_holds_each_metric_to_its_margin():
    worse = [comparison(0.8, 0.76), comparison(10, 10.05, higher=False, metric="perplexity")]
    check_gate(worse, {"acc": 0.06}, default_margin=0.01)
    check_gate(worse, {"acc": 0.0, "quiz/acc": 0.06}, default_margin=0.01)
    with pytest.raises(EvaluationError, match=r"quiz/acc is worse: 0.8 -> 0.76 \(5.00%, .*allowed is 1.00%$"):
        check_gate(worse, {}, default_margin=0.01)
    with pytest.raises(EvaluationError, match=r"allowed is 0.00%; 1 more failed"):
        check_gate(worse, {}, default_margin=0.0)


@pytest.mark.parametrize(
    ("comparisons", "margins", "words"),
    [
        ([], {}, "nothing was compared"),
        ([comparison(1, 1)], {"f1": 0.1}, "a margin is given for 'f1', which was not measured"),
        ([comparison(0.5, math.nan)], {}, "quiz/acc is worse"),
        ([comparison(0.0, 1.0, higher=False)], {}, "quiz/acc is worse"),
    ],
)
def test_the_gate_stays_shut_where_it_cannot_know(comparisons, margins, words):
    with pytest.raises(EvaluationError, match=words) as caught:
        check_gate(comparisons, margins, 0.05)
    assert "\n" not in str(caught.value)


def test_a_margin_holds_also_where_production_has_nothing_wrong():
    rarely = comparison(0.0, 0.01, higher=False, metric="toxicity")
    check_gate([rarely], {"toxicity": 0.02}, default_margin=0.0)
    with pytest.raises(EvaluationError, match="quiz/toxicity is worse"):
        check_gate([rarely], {"toxicity": 0.005}, default_margin=0.0)


@pytest.mark.parametrize("metric", ["acc_gap", "acc_lost_to_typos"])
def test_what_is_near_nothing_anyway_needs_a_margin_of_its_own(metric):
    doubled = comparison(0.01, 0.02, higher=False, metric=metric)
    check_gate([doubled], {}, default_margin=0.05)
    with pytest.raises(EvaluationError, match=f"quiz/{metric} is worse"):
        check_gate([doubled], {metric: 0.5}, default_margin=0.05)


def test_seconds_and_kilowatt_hours_are_reported_and_not_compared(workspace):
    def timed(seconds: float) -> list[Example]:
        scores = {"latency_seconds": seconds, "tokens_per_second": [9.0, seconds], "f1": 0.5}
        more = {"kwh_per_million_tokens": [seconds, 9.0], "memory_bytes": 1e9 * seconds}
        return [Example(id=str(each), scores=scores | more) for each in range(30)]

    fast = report(workspace, {"m": {"speed": timed(1.0)}}, "fast")
    slow = report(workspace, {"m": {"speed": timed(2.0)}}, "slow")
    assert [each.metric for each in compare_reports(fast, slow)] == ["f1"]


def test_what_got_better_passes():
    check_gate([comparison(0.5, 0.9), comparison(10, 5, higher=False), comparison(0, 0)], {}, 0.0)


def test_an_artifact_of_an_earlier_version_says_so(workspace):
    made: Artifact = report(workspace, {"base": {"quiz": right(3)}})
    old = made.model_copy(update={"facts": {"perplexity": {"base": 3.0}}})
    with pytest.raises(ArtifactError, match="is of an earlier version, evaluate again"):
        compare_reports(old, made)
