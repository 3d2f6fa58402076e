"""Reference text that steps learn from: what is named in their configs, read with the room's own readers.

A step that learns does so once, in a task before anything else is read; its arrays lie beside the shards.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from heliostat.data import decontamination
from heliostat.data.before_after import domain_terms
from heliostat.data.config import CleanConfig, DecisionConfig, DocumentStepConfig
from heliostat.data.dedup_config import DecontaminateStep
from heliostat.data.documents import Document
from heliostat.data.judges import check_judges
from heliostat.data.segments import all_document_steps
from heliostat.data.source_config import FilesSource
from heliostat.data.sources import check_sources, fingerprint_sources, units_of
from heliostat.data.steps.blocklist import BlocklistStep, blocklist_fingerprint
from heliostat.data.steps.fitting import FittedStep, fit_step, references
from heliostat.data.steps.topics import EmbeddingTopicStep
from heliostat.data.tasks import Statistics, TaskOfWork, Work, arrays_bytes, context_of, fitted_name
from heliostat.workspace import key_of

StepConfig = DocumentStepConfig | DecisionConfig


def reference_paths(config: StepConfig) -> tuple[str, ...]:
    """The files, folders or globs that a step learns from; () for one that does not learn."""
    return config.against if isinstance(config, DecontaminateStep) else references(config)


def fingerprint_references(config: CleanConfig) -> str:
    """A hash over what the steps' files hold now; "" when no step names any.

    Raises:
        ConfigError, DataError: one is not there or not readable.
    """
    parts = [fingerprint_sources(_sources_of(step)) for step in config.steps if reference_paths(step)]
    parts += [blocklist_fingerprint(step) for step in config.steps if isinstance(step, BlocklistStep)]
    parts += domain_terms(config)
    return key_of(*parts) if parts else ""


def check_references(config: CleanConfig) -> None:
    """See that the steps' files are there and of a known form, and the models they ask known.

    Raises:
        ConfigError, DataError, ModelError: one is not.
    """
    for step in config.steps:
        if reference_paths(step):
            check_sources(_sources_of(step))
        if isinstance(step, BlocklistStep):
            blocklist_fingerprint(step)
    domain_terms(config)
    check_judges(config)


def read_references(paths: tuple[str, ...]) -> Iterator[Document]:
    """The documents of reference files; rows that cannot be read are left out."""
    for path in paths:
        for unit in units_of(FilesSource(path=path)):
            yield from (outcome for outcome in unit.read() if isinstance(outcome, Document))


@dataclass(frozen=True)
class FitTask(TaskOfWork):
    """Let one step learn from its reference text."""

    config: DocumentStepConfig
    work: Work

    @property
    def name(self) -> str:
        """The task's name."""
        return fitted_name(self.config).removesuffix(".npz")

    def make(self) -> Statistics:
        """Write what was learned."""
        learned = _learn(self.config, self.work)
        self.scratch.write_bytes(fitted_name(self.config), arrays_bytes(learned))
        return {}


def fit_tasks(work: Work) -> list[FitTask]:
    """A task for each step that learns."""
    return [FitTask(step, work) for _, step in all_document_steps(work.config) if reference_paths(step)]


def _sources_of(step: StepConfig) -> CleanConfig:
    return CleanConfig(sources=tuple(FilesSource(path=path) for path in reference_paths(step)))


def _learn(config: DocumentStepConfig, work: Work) -> dict[str, np.ndarray]:
    if isinstance(config, DecontaminateStep):
        documents = list(read_references(config.against))
        texts, uids = [each.whole_text for each in documents], [each.uid for each in documents]
        return decontamination.fit(texts, uids, config).arrays()
    assert isinstance(config, FittedStep), "whoever names references learns from them"
    embed = context_of(work).embed(config) if isinstance(config, EmbeddingTopicStep) else None
    return fit_step(config, lambda path: (each.whole_text for each in read_references((path,))), embed)
