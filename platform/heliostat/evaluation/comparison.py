"""Two evaluated models side by side: what differs, by how much, and whether that is more than chance.

Two reports can be compared where they asked the same: suites whose fingerprints agree. Examples are matched
by id.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from heliostat.errors import ArtifactError
from heliostat.evaluation.examples import Example, examples_file, read_examples, sums_of
from heliostat.evaluation.metrics import of_the_machine, value_of
from heliostat.evaluation.paired import compare_pairs, count_wins, example_differences
from heliostat.records import Artifact
from heliostat.storage import artifact_folder, find_artifact, open_artifact
from heliostat.workspace import Workspace

FOLDER = "reports"
PER_TOKEN = ("perplexity", "loss")


@dataclass(frozen=True)
class MetricComparison:
    """One metric of one suite, of models a and b over the same examples.

    `difference` is b less a, `low` and `high` the ends of its 95 % interval; `p_value` says how often models
    that are alike would differ as much. `wins` are the examples b does better on.
    """

    suite: str
    metric: str
    higher_is_better: bool
    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    p_value: float
    wins: int
    losses: int
    ties: int
    num_examples: int

    @property
    def worse_by(self) -> float:
        """How much worse b is, as a share of a's value; 0 or less where it is not.

        Where a has 0 there is no share of it, and this is the difference as it is.
        """
        worse = -self.difference if self.higher_is_better else self.difference
        return worse / abs(self.value_a) if self.value_a else worse


@dataclass(frozen=True)
class Disagreement:
    """An example on which the two models differ, `difference` being b less a."""

    suite: str
    metric: str
    difference: float
    a: Example
    b: Example

    @property
    def id(self) -> str:
        """The example's."""
        return self.a.id


@dataclass(frozen=True)
class Pairs:
    """A suite's examples of both models, in the same order, and what the report says of its metrics."""

    suite: str
    metrics: dict[str, dict[str, Any]]
    a: list[Example]
    b: list[Example]


def compare_reports(
    a: Artifact, b: Artifact, model_a: str | None = None, model_b: str | None = None
) -> list[MetricComparison]:
    """Compare a model of report `a` with one of report `b`; they may be two models of one report.

    Raises:
        ArtifactError: a report holds several models and none was named, or has not the one that was; there is
            no suite that asked both the same.
    """
    return [each for pairs in paired_suites(a, b, model_a, model_b) for each in compare_pairs_of(pairs)]


def compare_pairs_of(pairs: Pairs) -> list[MetricComparison]:
    """Every metric of one suite's pairs."""
    return [_compare(pairs, metric, bool(said["higher_is_better"])) for metric, said in pairs.metrics.items()]


def paired_suites(
    a: Artifact, b: Artifact, model_a: str | None = None, model_b: str | None = None
) -> Iterator[Pairs]:
    """The examples of the suites that both reports asked alike; errors as `compare_reports`."""
    name_a, name_b = model_in(a, model_a), model_in(b, model_b)
    suites_a, suites_b = a.facts["suites"], b.facts["suites"]
    alike = [name for name, asked in suites_a.items() if suites_b.get(name) == asked]
    if not alike:
        raise ArtifactError(
            f"{a.id} and {b.id} share no suite that asked the same ({', '.join(suites_a)}; "
            f"{', '.join(suites_b)}); evaluate both with the same suites, data and settings"
        )
    found = False
    for suite in alike:
        if suite not in a.facts["scores"][name_a] or suite not in b.facts["scores"][name_b]:
            continue  # an endpoint is not asked for likelihoods
        pairs = _pair(suite, (a, name_a), (b, name_b))
        if pairs.metrics:
            found = True
            yield pairs
    if not found:
        raise ArtifactError(
            f"{a.id} ({name_a}) and {b.id} ({name_b}) have no metric over the same examples; "
            "evaluate both again with the same suites"
        )


def disagreements(pairs: Pairs, metric: str, most: int) -> list[Disagreement]:
    """The examples that the models differ on the most in a metric, the largest difference first."""
    examples_a, examples_b = _with_metric(pairs, metric)
    value = value_of(metric)
    found = example_differences(sums_of(examples_a, metric), sums_of(examples_b, metric), value)
    order = np.argsort(-np.abs(found), kind="stable")[:most].tolist()
    return [
        Disagreement(pairs.suite, metric, float(found[at]), examples_a[at], examples_b[at])
        for at in order
        if found[at]
    ]


def model_in(report: Artifact, name: str | None) -> str:
    """The name of a report's model: the one that is asked for, or its only one.

    Raises:
        ArtifactError: it is not in the report, or there are several and none was named.
    """
    names = list(report.facts.get("models", {}))
    if not names or "suites" not in report.facts:
        raise ArtifactError(
            f"{report.uri}: has no scores by example; it is of an earlier version, evaluate again"
        )
    if name is None and len(names) == 1:
        return str(names[0])
    if name is None:
        raise ArtifactError(
            f"{report.id} is of several models ({', '.join(names)}); say which with --model-a or --model-b"
        )
    if name not in names:
        raise ArtifactError(f"{report.id} has no model '{name}'; it has: {', '.join(names)}")
    return name


def find_report(given: str, workspace: Workspace) -> Artifact:
    """The report that an id, the name of a folder in the workspace, or a path stands for.

    Raises:
        ArtifactError: there is none; names those that the workspace has.
    """
    if "/" in given:
        return open_artifact(given, ("report",))
    names = [name for name in workspace.storage.list(FOLDER) if not name.startswith(".")]
    artifacts = {name: find_artifact(workspace.storage, f"{FOLDER}/{name}") for name in names}
    for name, artifact in artifacts.items():
        if artifact and given in (name, artifact.id):
            return artifact
    there = ", ".join(name for name, artifact in artifacts.items() if artifact) or "none"
    raise ArtifactError(f"{given}: no such report in {workspace.storage.root}; it has: {there}")


def _pair(suite: str, a: tuple[Artifact, str], b: tuple[Artifact, str]) -> Pairs:
    (report_a, name_a), (report_b, name_b) = a, b
    by_id = {
        example.id: example
        for example in read_examples(examples_file(artifact_folder(report_b), name_b, suite))
    }
    all_of_a = read_examples(examples_file(artifact_folder(report_a), name_a, suite))
    both = [(example, by_id[example.id]) for example in all_of_a if example.id in by_id]
    pairs = Pairs(suite, {}, [each for each, _ in both], [each for _, each in both])
    said = report_a.facts["scores"][name_a][suite]
    metrics = {metric: facts for metric, facts in said.items() if _comparable(pairs, metric)}
    return Pairs(suite, metrics, pairs.a, pairs.b)


def _comparable(pairs: Pairs, metric: str) -> bool:
    """Whether both have the metric by example, and it is the model's.

    A loss per token needs the same tokens. Seconds and kilowatt-hours are never compared: two runs of one
    model on a machine that did something else meanwhile would be called different.
    """
    if of_the_machine(metric):
        return False
    examples_a, examples_b = _with_metric(pairs, metric)
    if not examples_a:
        return False
    sums_a, sums_b = sums_of(examples_a, metric), sums_of(examples_b, metric)
    if sums_a.shape != sums_b.shape:
        return False
    return metric not in PER_TOKEN or bool((sums_a[:, 1] == sums_b[:, 1]).all())


def _with_metric(pairs: Pairs, metric: str) -> tuple[list[Example], list[Example]]:
    both = [
        (a, b) for a, b in zip(pairs.a, pairs.b, strict=True) if metric in a.scores and metric in b.scores
    ]
    return [a for a, _ in both], [b for _, b in both]


def _compare(pairs: Pairs, metric: str, higher_is_better: bool) -> MetricComparison:
    examples_a, examples_b = _with_metric(pairs, metric)
    sums_a, sums_b = sums_of(examples_a, metric), sums_of(examples_b, metric)
    value = value_of(metric)
    found = compare_pairs(sums_a, sums_b, value)
    wins, losses, ties = count_wins(sums_a, sums_b, value, higher_is_better)
    return MetricComparison(
        suite=pairs.suite,
        metric=metric,
        higher_is_better=higher_is_better,
        value_a=found.value_a,
        value_b=found.value_b,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        wins=wins,
        losses=losses,
        ties=ties,
        num_examples=len(examples_a),
    )
