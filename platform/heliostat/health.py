"""The health check: is a version still what it was when it was promoted?

Its files are hashed against the certificate, and the evaluation of its record is made again, of the files
that lie there now: never answered from a finished report. Speed is left out: that is the machine's health.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from heliostat.config import Config, Resources
from heliostat.errors import ArtifactError, EvaluationError, HeliostatError
from heliostat.evaluation.comparison import MetricComparison, compare_reports
from heliostat.evaluation.config import EvaluateConfig
from heliostat.evaluation.gate import SIGNIFICANT, failing
from heliostat.promotion import DEFAULT_MARGIN, NOW, name_in
from heliostat.records import Artifact
from heliostat.storage import split_uri
from heliostat.versions.contents import Contents
from heliostat.versions.names import ALIASES
from heliostat.versions.registry import ModelVersion, Registry
from heliostat.versions.resolving import artifact_of, find_version
from heliostat.workspace import Workspace

"""The model's name in the report of a health check."""
_BLOCK_BYTES = 2**20


class HealthConfig(Config):
    """What is checked, and what counts as a regression."""

    name: str = Field(default="health", pattern=r"^[a-z0-9][a-z0-9._-]*$")
    model: str = Field(description="a version, such as NAME@production")
    default_margin: float = Field(default=DEFAULT_MARGIN, ge=0, description="how much worse, as a share")
    margins: dict[str, float] = Field(default={}, description="the same for a metric, or suite/metric")
    micro_batch_size: int = Field(default=1, ge=1)
    resources: Resources = Resources(num_cpus=1)


@dataclass(frozen=True)
class Health:
    """What was found. `regressions` are worse by more than their margin with p < 0.01."""

    version: ModelVersion
    record: Artifact
    damaged: tuple[str, ...]
    comparisons: tuple[MetricComparison, ...]
    regressions: tuple[MetricComparison, ...]
    failure: str = ""

    @property
    def verdict(self) -> Literal["healthy", "damaged", "worse"]:
        """In one word; damaged files are never healthy, whatever they score."""
        if self.damaged or self.failure:
            return "damaged"
        return "worse" if self.regressions else "healthy"


def check_health(config: HealthConfig, workspace: Workspace) -> Health:
    """Evaluate a version anew, as in the report with which it was promoted, and compare. Needs Ray.

    Raises:
        ConfigError: there is no such version.
        EvaluationError: it has no record to compare with.
        ArtifactError: its files, or the dataset of its record, are gone.
    """
    version = find_version(config.model, Registry(workspace))
    model = artifact_of(version, workspace)
    record, dataset = _record_of(version, Contents.read(workspace))
    damaged = tuple(damaged_files(model))
    try:
        report = _evaluate(config, record, model, dataset, workspace)
    except HeliostatError as error:
        if not damaged:
            raise
        return Health(version, record, damaged, (), (), str(error))
    comparisons = compare_reports(record, report, name_in(record, model.id), NOW)
    worse = [
        c for c in failing(comparisons, config.margins, config.default_margin) if c.p_value < SIGNIFICANT
    ]
    return Health(version, record, damaged, tuple(comparisons), tuple(worse))


def damaged_files(artifact: Artifact) -> list[str]:
    """The files of an artifact that are gone, or are not what its certificate says."""
    storage, name = split_uri(artifact.uri)
    damaged = []
    for entry in artifact.files:
        path = f"{name}/{entry.path}"
        digest = hashlib.sha256()
        if storage.exists(path):
            with storage.open_file(path) as stream:
                while block := stream.read(_BLOCK_BYTES):
                    digest.update(block)
        if digest.hexdigest() != entry.sha256:
            damaged.append(entry.path)
    return damaged


def _record_of(version: ModelVersion, contents: Contents) -> tuple[Artifact, Artifact | None]:
    """The report with which a version was promoted, and the dataset it was evaluated on."""
    ids = [report for alias in reversed(ALIASES) if (report := version.report(alias))]
    found = {each.id: each for each in contents.artifacts.values()}
    record = next((found[each] for each in ids if each in found), None)
    if record is None or name_in(record, version.artifact_id) is None:
        raise EvaluationError(
            f"{version.reference}: has no record to be compared with: no report was there when it was "
            f"promoted; evaluate it and promote it again ('heliostat models promote {version.reference} ...')"
        )
    parents = [found[each] for each in record.parents if each in found]
    dataset = next((each for each in parents if each.kind == "tokenized"), None)
    gone = [each for each in record.parents if each.startswith("tokenized-") and each not in found]
    if gone:
        raise ArtifactError(f"{record.id}: its dataset {gone[0]} is gone; run the recipe that made it again")
    return record, dataset


def _evaluate(
    config: HealthConfig, record: Artifact, model: Artifact, dataset: Artifact | None, workspace: Workspace
) -> Artifact:
    from heliostat.evaluation.run import evaluate_model

    asked = EvaluateConfig.model_validate(record.config)
    again = asked.model_copy(
        update={
            "name": f"{config.name}-{asked.name}",
            "models": {},
            "endpoints": {},
            "suites": tuple(suite for suite in asked.asked if suite.kind != "efficiency"),
            "micro_batch_size": config.micro_batch_size,
            "resources": config.resources,
        }
    )
    return evaluate_model(again, {NOW: model}, dataset, workspace, force=True)
