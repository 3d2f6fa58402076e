"""Evaluations: all models against all suites, single examples, and two models side by side."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from heliostat.errors import ArtifactError
from heliostat.evaluation.comparison import (
    MetricComparison,
    compare_pairs_of,
    disagreements,
    model_in,
    paired_suites,
)
from heliostat.evaluation.examples import Example, examples_file, read_examples, sums_of
from heliostat.evaluation.metrics import higher_is_better, value_of
from heliostat.evaluation.report import PAGE_NAME
from heliostat.records import Artifact
from heliostat.storage import artifact_folder, find_artifact
from heliostat.workspace import Workspace

FOLDER = "reports"
Order = Literal["file", "worst", "best"]
PAGE = 20
DISAGREEMENTS = 8


@dataclass(frozen=True)
class Task:
    """A column of the leaderboard: a metric of a suite. Suites of one name that ask something else are
    columns of their own, told apart by `number` from 1; scores are comparable within a column only."""

    suite: str
    fingerprint: str
    metric: str
    higher_is_better: bool
    number: int = 1

    @property
    def label(self) -> str:
        """Suite, metric, and the number where the suite asked different things."""
        return f"{self.suite}/{self.metric}" + (f" #{self.number}" if self.number > 1 else "")


@dataclass(frozen=True)
class Score:
    """A score with the ends of its 95 % interval, over so many examples, from which report."""

    value: float
    low: float
    high: float
    num_examples: int
    report: str


@dataclass(frozen=True)
class Contender:
    """A row of the leaderboard: a model by its artifact, or an endpoint by its address. `called` is what its
    latest report calls it; `scores` go by the task's label."""

    id: str
    called: str
    name: str
    scores: dict[str, Score]


@dataclass(frozen=True)
class Leaderboard:
    """All models that were evaluated against all that was asked, the latest score of each."""

    tasks: tuple[Task, ...]
    contenders: tuple[Contender, ...]


@dataclass(frozen=True)
class EvaluationReport:
    """A report in the list; `models` are artifact ids by what the report calls them."""

    id: str
    name: str
    path: str
    models: dict[str, str]
    suites: dict[str, tuple[str, ...]]
    """Metrics by suite."""
    created_at: datetime
    page: str


@dataclass(frozen=True)
class ScoredExample:
    """An example with its value of a metric; texts are as they were sent and came."""

    id: str
    group: str | None
    value: float | None
    scores: dict[str, float]
    prompt: str
    target: str
    output: str


@dataclass(frozen=True)
class ExamplePage:
    """One page of a suite's examples; `number` counts from 1."""

    examples: tuple[ScoredExample, ...]
    total: int
    number: int
    size: int

    @property
    def pages(self) -> int:
        """How many pages there are, at least one."""
        return max(1, -(-self.total // self.size))


@dataclass(frozen=True)
class Difference:
    """An example on which two models differ, by b less a."""

    suite: str
    metric: str
    difference: float
    a: ScoredExample
    b: ScoredExample


@dataclass(frozen=True)
class ComparedModels:
    """Two models of reports: every metric of what both were asked alike, and where they differ the most."""

    name_a: str
    name_b: str
    metrics: tuple[MetricComparison, ...]
    differences: tuple[Difference, ...]


def list_reports(workspace: Workspace) -> list[EvaluationReport]:
    """The evaluation reports, the latest first; those of sweeps are not among them.

    Raises:
        ArtifactError: a certificate cannot be read.
        StorageError: the workspace does not answer.
    """
    return [_report(path, artifact) for path, artifact in _reports(workspace)]


def leaderboard(workspace: Workspace) -> Leaderboard:
    """All evaluated models, those with the most scores first; errors as `list_reports`."""
    reports = _reports(workspace)
    tasks: dict[tuple[str, str, str], Task] = {}
    scores: dict[str, dict[str, Score]] = {}
    called: dict[str, str] = {}
    for path, artifact in reports:
        for name, suites in artifact.facts["scores"].items():
            model = artifact.facts["models"].get(name, name)
            called.setdefault(model, f"{name} ({path.rpartition('/')[2].rpartition('-')[0]})")
            for task, found in _scores(artifact, suites, tasks):
                scores.setdefault(model, {}).setdefault(task.label, _score(found, artifact.id))
    names = _model_names(workspace)
    rows = [
        Contender(model, called[model], names.get(model, model), found) for model, found in scores.items()
    ]
    ordered = sorted(tasks.values(), key=lambda task: (task.suite, task.number))
    return Leaderboard(tuple(ordered), tuple(sorted(rows, key=lambda row: -len(row.scores))))


def show_report(workspace: Workspace, report_id: str) -> EvaluationReport:
    """A report by its id.

    Raises:
        ArtifactError: there is none, or it is no evaluation's.
        StorageError: the workspace does not answer.
    """
    path, artifact = _find(workspace, report_id)
    return _report(path, artifact)


def report_scores(workspace: Workspace, report_id: str) -> dict[str, dict[str, dict[str, Any]]]:
    """A report's scores by model, suite and metric; errors as `show_report`."""
    return dict(_find(workspace, report_id)[1].facts["scores"])


def browse_examples(
    workspace: Workspace,
    where: tuple[str, str, str],
    metric: str | None = None,
    order: Order = "file",
    page: tuple[int, int] = (1, PAGE),
) -> ExamplePage:
    """A page of the examples of a report, a model and a suite (`where`); the best or the worst by a metric
    first. `page` is its number from 1 and its size.

    Raises:
        ArtifactError: there is no such report, or it has no such model or suite.
        StorageError: the workspace does not answer.
    """
    report_id, model, suite = where
    _, artifact = _find(workspace, report_id)
    if suite not in artifact.facts["scores"].get(model, {}):
        raise ArtifactError(f"{report_id}: has no examples of '{model}' in suite '{suite}'")
    examples = [scored(example, metric) for example in _examples(artifact.uri, model, suite)]
    if metric and order != "file":
        examples = [each for each in examples if each.value is not None]
        up = higher_is_better(metric) == (order == "worst")
        examples.sort(key=lambda each: (each.value or 0.0) * (1 if up else -1))
    number, size = page
    number = min(max(1, number), max(1, -(-len(examples) // size)))
    start = (number - 1) * size
    return ExamplePage(tuple(examples[start : start + size]), len(examples), number, size)


def compare_models(workspace: Workspace, a: tuple[str, str], b: tuple[str, str]) -> ComparedModels:
    """Two models, each given by a report's id and what the report calls it; b against a.

    Raises:
        ArtifactError: there is no such report or model, or they were not asked the same.
        StorageError: the workspace does not answer.
    """
    first, second = _find(workspace, a[0])[1], _find(workspace, b[0])[1]
    return _compared(first.model_dump_json(), second.model_dump_json(), a[1], b[1])


@lru_cache(maxsize=32)
def _compared(first: str, second: str, model_a: str, model_b: str) -> ComparedModels:
    """Permutation tests over thousands of examples take a while, and published reports never change."""
    a, b = Artifact.model_validate_json(first), Artifact.model_validate_json(second)
    metrics: list[MetricComparison] = []
    differences: list[Difference] = []
    for pairs in paired_suites(a, b, model_a, model_b):
        metrics += compare_pairs_of(pairs)
        metric = next(iter(pairs.metrics))
        differences += [
            Difference(
                found.suite, metric, found.difference, scored(found.a, metric), scored(found.b, metric)
            )
            for found in disagreements(pairs, metric, DISAGREEMENTS)
        ]
    return ComparedModels(model_in(a, model_a), model_in(b, model_b), tuple(metrics), tuple(differences))


def scored(example: Example, metric: str | None = None) -> ScoredExample:
    """An example as it is shown: its scores as values, its prompt, target and output as text."""
    values = {name: _value(example, name) for name in example.scores}
    return ScoredExample(
        id=example.id,
        group=example.group,
        value=values.get(metric) if metric else None,
        scores={name: value for name, value in values.items() if value is not None},
        prompt=text_of(example.prompt),
        target=text_of(example.target),
        output=text_of(example.output),
    )


def text_of(said: Any) -> str:
    """A prompt or an answer as plain text: messages with their roles in front."""
    if said is None:
        return ""
    if isinstance(said, list) and all(isinstance(each, dict) and "role" in each for each in said):
        return "\n".join(f"{each['role']}: {each.get('content') or ''}" for each in said)
    return said if isinstance(said, str) else str(said)


def _value(example: Example, metric: str) -> float | None:
    value = float(value_of(metric)(sums_of([example], metric)[0]))
    return value if math.isfinite(value) else None


@lru_cache(maxsize=16)
def _examples(uri: str, model: str, suite: str) -> tuple[Example, ...]:
    from heliostat.storage import split_uri

    storage, name = split_uri(uri)
    artifact = find_artifact(storage, name)
    if artifact is None:
        raise ArtifactError(f"{uri}: is gone")
    return tuple(read_examples(examples_file(artifact_folder(artifact), model, suite)))


def _reports(workspace: Workspace) -> list[tuple[str, Artifact]]:
    """Evaluations' reports with their paths, the latest first."""
    paths = [f"{FOLDER}/{name}" for name in workspace.storage.list(FOLDER) if not name.startswith(".")]
    found = [(path, find_artifact(workspace.storage, path)) for path in paths]
    kept = [
        (path, each) for path, each in found if each and "scores" in each.facts and "suites" in each.facts
    ]
    return sorted(kept, key=lambda item: item[1].created_at, reverse=True)


def _find(workspace: Workspace, report_id: str) -> tuple[str, Artifact]:
    known = _reports(workspace)
    for path, artifact in known:
        if report_id in (artifact.id, path.rpartition("/")[2]):
            return path, artifact
    there = ", ".join(artifact.id for _, artifact in known[:8]) or "none"
    raise ArtifactError(
        f"{report_id}: no such evaluation report in {workspace.storage.root}; it has: {there}"
    )


def _report(path: str, artifact: Artifact) -> EvaluationReport:
    suites: dict[str, tuple[str, ...]] = {}
    for scores in artifact.facts["scores"].values():
        for suite, metrics in scores.items():
            suites[suite] = tuple(dict.fromkeys((*suites.get(suite, ()), *metrics)))
    return EvaluationReport(
        id=artifact.id,
        name=path.rpartition("/")[2].rpartition("-")[0],
        path=path,
        models=artifact.facts["models"],
        suites=suites,
        created_at=artifact.created_at,
        page=f"{artifact.uri}/{PAGE_NAME}",
    )


def _scores(
    artifact: Artifact, suites: dict[str, dict[str, Any]], tasks: dict[tuple[str, str, str], Task]
) -> Iterator[tuple[Task, dict[str, Any]]]:
    for suite, metrics in suites.items():
        fingerprint = str(artifact.facts["suites"].get(suite, ""))
        for metric, found in metrics.items():
            key = suite, fingerprint, metric
            if key not in tasks:
                others = {fp for name, fp, of in tasks if name == suite and of == metric}
                tasks[key] = Task(*key, bool(found["higher_is_better"]), len(others) + 1)
            yield tasks[key], found


def _score(found: dict[str, Any], report: str) -> Score:
    value, low, high = (float(found[end]) for end in ("value", "low", "high"))
    return Score(value, low, high, int(found["num_examples"]), report)


def _model_names(workspace: Workspace) -> dict[str, str]:
    """What the folders of models are called, by the artifacts' ids."""
    found: dict[str, str] = {}
    for name in workspace.storage.list("models"):
        artifact = None if name.startswith(".") else find_artifact(workspace.storage, f"models/{name}")
        if artifact:
            found[artifact.id] = name.rpartition("-")[0]
    return found


def best_in(board: Leaderboard, task: Task) -> Sequence[Contender]:
    """Those that no other beats by more than the intervals: the leader, and whoever overlaps it."""
    with_score = [row for row in board.contenders if task.label in row.scores]
    if not with_score:
        return ()
    sign = 1 if task.higher_is_better else -1
    leader = max(with_score, key=lambda row: sign * row.scores[task.label].value).scores[task.label]
    return [
        row
        for row in with_score
        if row.scores[task.label].high >= leader.low and row.scores[task.label].low <= leader.high
    ]
