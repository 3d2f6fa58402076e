"""Promotion: a version bears `staging` or `production` when a report proves that it is no worse.

The gate reads reports that are there; it evaluates nothing. Passing it by is possible, on purpose and on
record.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from heliostat.errors import ArtifactError, ConfigError, EvaluationError
from heliostat.evaluation.comparison import MetricComparison, compare_reports
from heliostat.evaluation.gate import check_gate
from heliostat.records import Artifact
from heliostat.versions.contents import Contents
from heliostat.versions.history import AliasEvent
from heliostat.versions.names import Alias
from heliostat.versions.registry import ModelVersion, Registry
from heliostat.versions.resolving import artifact_of, find_version
from heliostat.workspace import Workspace

DEFAULT_MARGIN = 0.01
NOW = "now"
"""What a health check calls the version that it looks at."""
"""A hundredth of production's value: less is rather another run's luck than another model."""
SKIPPED = "skipped on purpose"


@dataclass(frozen=True)
class Promotion:
    """What was promoted: the event in the alias's log, and what the gate compared (a is production)."""

    version: ModelVersion
    event: AliasEvent
    comparisons: tuple[MetricComparison, ...]


@dataclass(frozen=True)
class Gate:
    """How much worse than production a metric may be, as a share of its value: by "suite/metric" or
    "metric", else `default_margin`. `skip` lets everything pass."""

    margins: Mapping[str, float]
    default_margin: float = DEFAULT_MARGIN
    skip: bool = False


def promote(
    reference: str, to: Alias, workspace: Workspace, gate: Gate | None = None, user: str | None = None
) -> Promotion:
    """Let the version of a reference bear an alias, if reports prove it as good as production.

    For `staging` and `production` a report must hold it; and, where there is a production version, one must
    hold that on the same suites. `candidate` asks for nothing. `user` is who promotes, where that is not whom
    this process belongs to.

    Raises:
        ConfigError: there is no such version, or it bears the alias.
        ArtifactError: its files are gone.
        EvaluationError: it was not evaluated, not comparably, or is worse; one line.
    """
    gate = gate or Gate({})
    registry = Registry(workspace, user)
    version = find_version(reference, registry)
    artifact_of(version, workspace)
    if to in version.aliases:
        raise ConfigError(f"{version.reference}: is {to} already")
    if to == "candidate" or gate.skip:
        said = SKIPPED if to != "candidate" else ""
        return Promotion(version, registry.give(to, version, said, _skipped_report(version, workspace)), ())
    others = registry.versions(version.name)
    production = next((each for each in others if "production" in each.aliases), None)
    contents = Contents.read(workspace)
    report, comparisons, said = _prove(version, production, contents, gate)
    return Promotion(version, registry.give(to, version, said, report.id), tuple(comparisons))


def name_in(report: Artifact, artifact_id: str) -> str | None:
    """What a report calls an artifact; None where it holds no scores of it."""
    models = report.facts.get("models", {})
    names = [name for name, held in models.items() if held == artifact_id]
    return next((name for name in names if report.facts.get("scores", {}).get(name)), None)


def scored_reports(artifact_id: str, contents: Contents) -> list[Artifact]:
    """The reports that hold scores of an artifact, the latest first; not those that a health check made to
    look, and makes again the next time."""
    names = [(report, name_in(report, artifact_id)) for report in contents.reports_on(artifact_id)]
    return [report for report, name in names if name not in (None, NOW)]


def _prove(
    version: ModelVersion, production: ModelVersion | None, contents: Contents, gate: Gate
) -> tuple[Artifact, list[MetricComparison], str]:
    """The report that the gate read, what it compared, and how it passed, in words."""
    report, other, comparisons = compare_with_production(version, production, contents)
    if production is None or other is None:
        return report, [], f"first of its kind, evaluated in {report.id}"
    try:
        check_gate(comparisons, gate.margins, gate.default_margin)
    except EvaluationError as error:
        raise EvaluationError(f"{version.reference} against {production.reference}: {error}") from None
    margins = "".join(f", {name} {margin:g}" for name, margin in gate.margins.items())
    said = f"passed against {production.version} in {other.id}, margin {gate.default_margin:g}{margins}"
    return report, comparisons, said


def compare_with_production(
    version: ModelVersion, production: ModelVersion | None, contents: Contents
) -> tuple[Artifact, Artifact | None, list[MetricComparison]]:
    """What the gate looks at: the version's report, production's, and how they differ (a is production).
    Without another model in production there is the version's report only.

    Raises:
        EvaluationError: one of them was not evaluated, or not as the other was.
    """
    reports = scored_reports(version.artifact_id, contents)
    if not reports:
        raise EvaluationError(
            f"{version.reference}: no evaluation report holds it ({version.artifact_id}); run a recipe with "
            f"'model: {version.reference}' and 'evaluate:', or promote it unproved with --no-gate"
        )
    if production is None or production.artifact_id == version.artifact_id:
        return reports[0], None, []
    against = scored_reports(production.artifact_id, contents)
    if not against:
        raise EvaluationError(
            f"{version.reference}: no evaluation report holds {production.reference}, which is production; "
            "evaluate that on the same suites, or promote unproved with --no-gate"
        )
    return _compare(version, production, reports, against)


def _compare(
    version: ModelVersion, production: ModelVersion, reports: list[Artifact], against: list[Artifact]
) -> tuple[Artifact, Artifact, list[MetricComparison]]:
    """The latest pair of reports that asked both the same; one that holds both comes first."""
    pairs = [(report, other) for report in reports for other in against]
    reason = ""
    for report, other in sorted(pairs, key=lambda pair: pair[0].id != pair[1].id):
        names = name_in(other, production.artifact_id), name_in(report, version.artifact_id)
        try:
            return report, other, compare_reports(other, report, *names)
        except ArtifactError as error:
            reason = reason or str(error)
    raise EvaluationError(
        f"{version.reference}: its reports cannot be compared with those of {production.reference}: {reason}"
    )


def _skipped_report(version: ModelVersion, workspace: Workspace) -> str | None:
    """The latest report on a version that passed by the gate, if any: the health check's record."""
    reports = scored_reports(version.artifact_id, Contents.read(workspace))
    return reports[0].id if reports else None
