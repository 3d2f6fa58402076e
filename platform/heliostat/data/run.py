"""The data stage: sources in, a packed, tokenized dataset with its receipt out."""

from functools import partial

import heliostat
from heliostat.data.artifacts import fill_dataset, fill_tokenized
from heliostat.data.config import DataConfig
from heliostat.data.sources import fingerprint_sources
from heliostat.data.tasks import Runner
from heliostat.models.loading import tokenizer_fingerprint
from heliostat.ray_session import require_resources
from heliostat.records import Artifact
from heliostat.stage import Request, StageRun, find_or_make
from heliostat.storage import Publication, Storage, artifact_folder
from heliostat.workspace import Workspace


def prepare_data(config: DataConfig, model: Artifact, workspace: Workspace, force: bool = False) -> Artifact:
    """The tokenized dataset of a config for a model, found or made. Its first parent: the cleaned documents.

    Raises:
        ConfigError: a source is not there.
        DataError: a source is empty, of another format or lacks a column; or no document was kept.
        ClusterError: the cluster can never give one task what `resources` asks.
    """
    dataset = _cleaned(config, model, workspace, force)
    request = Request("tokenize", "tokenized", config.name, config.tokenize, (dataset, model))
    work = partial(_tokenize, config, dataset, model)
    return find_or_make(workspace, request, work, force)


def _cleaned(config: DataConfig, model: Artifact, workspace: Workspace, force: bool) -> Artifact:
    sources = fingerprint_sources(config)
    if config.cleaning.needs_tokenizer:
        sources += tokenizer_fingerprint(artifact_folder(model))
    request = Request("clean", "dataset", config.name, config.cleaning, sources=sources)
    return find_or_make(workspace, request, partial(_clean, config, model), force)


def _clean(config: DataConfig, model: Artifact, publication: Publication, run: StageRun) -> None:
    scratch = _scratch(run)
    facts = fill_dataset(config, model, publication.folder, scratch, _runner(config))
    publication.facts |= facts
    run.log({"documents_read": facts["documents_read"], "documents_kept": sum(facts["documents"].values())})
    scratch.delete("")


def _tokenize(
    config: DataConfig, dataset: Artifact, model: Artifact, publication: Publication, run: StageRun
) -> None:
    scratch = _scratch(run)
    facts = fill_tokenized(config, (dataset, model), publication.folder, scratch, _runner(config))
    publication.facts |= facts
    kept = sum(split["tokens"] for split in facts["splits"].values())
    run.log({"tokens_read": facts["receipt"]["read"]["tokens"], "tokens_kept": kept})
    scratch.delete("")


def _scratch(run: StageRun) -> Storage:
    """Where the tasks write: kept between attempts, but not between versions that may write otherwise."""
    return Storage.at(run.workspace.storage.uri(f"{run.path}/shards-{heliostat.__version__}"))


def _runner(config: DataConfig) -> Runner:
    from heliostat.data.edge import ray_runner

    require_resources(config.resources, 1, "data preparation")
    return ray_runner(config.resources)
