"""The data stage: sources in, a packed, tokenized dataset with its receipt out."""

import logging
from functools import partial

import heliostat
from heliostat.data.artifacts import fill_dataset, fill_tokenized
from heliostat.data.config import DataConfig
from heliostat.data.judges import bring_judges
from heliostat.data.near_decision import NearWork, nominate_here
from heliostat.data.near_dedup import Candidates
from heliostat.data.references import fingerprint_references
from heliostat.data.sources import files_left_out, fingerprint_sources
from heliostat.data.tasks import Runner, StepModels
from heliostat.models.loading import tokenizer_fingerprint
from heliostat.ray_session import require_resources
from heliostat.records import Artifact
from heliostat.stage import Request, StageRun, find_or_make
from heliostat.storage import Publication, Storage, artifact_folder
from heliostat.workspace import Workspace

_HALF_GONE = ".deleted"
_MOST_NAMED, _MOST_KEPT = 5, 100
logger = logging.getLogger(__name__)


def prepare_data(
    config: DataConfig, model: Artifact | None, workspace: Workspace, force: bool = False
) -> Artifact:
    """The tokenized dataset of a config for a model, found or made. Its first parent: the cleaned documents.

    Without a model it is the cleaned documents themselves.

    Raises:
        ConfigError: a source is not there.
        DataError: a source is empty, of another format or lacks a column; or no document was kept.
        ModelError: a model that a step asks is not to be had.
        ClusterError: the cluster can never give one task what `resources` asks.
    """
    dataset = _cleaned(config, model, workspace, force)
    if model is None:
        return dataset
    request = Request("tokenize", "tokenized", config.name, config.packing, (dataset, model))
    work = partial(_tokenize, config, dataset, model)
    return find_or_make(workspace, request, work, force)


def _cleaned(config: DataConfig, model: Artifact | None, workspace: Workspace, force: bool) -> Artifact:
    sources = fingerprint_sources(config) + fingerprint_references(config.cleaning)
    if model and config.cleaning.needs_tokenizer:
        sources += tokenizer_fingerprint(artifact_folder(model))
    models = StepModels(model, bring_judges(config.cleaning, workspace))
    sources += "".join(judge.content for _, judge in sorted(models.judges.items()))
    request = Request("clean", "dataset", config.name, config.cleaning, sources=sources)
    return find_or_make(workspace, request, partial(_clean, config, models), force)


def _clean(config: DataConfig, models: StepModels, publication: Publication, run: StageRun) -> None:
    scratch = _scratch(run)
    beside = files_left_out(config)
    if beside:
        named = ", ".join(beside[:_MOST_NAMED]) + (", ..." if len(beside) > _MOST_NAMED else "")
        logger.info("%s: %d file(s) beside the data are not read: %s", config.name, len(beside), named)
    facts = fill_dataset(config, models, publication.folder, scratch, _runner(config, run), _nominate)
    publication.facts |= facts | {"files_left_out": {"files": len(beside), "names": beside[:_MOST_KEPT]}}
    run.log({"documents_read": facts["documents_read"], "documents_kept": sum(facts["documents"].values())})
    run.when_published.append(partial(_discard, run))


def _tokenize(
    config: DataConfig, dataset: Artifact, model: Artifact, publication: Publication, run: StageRun
) -> None:
    scratch = _scratch(run)
    facts = fill_tokenized(config, (dataset, model), publication.folder, scratch, _runner(config, run))
    publication.facts |= facts
    kept = sum(split["tokens"] for split in facts["splits"].values())
    run.log({"tokens_read": facts["receipt"]["read"]["tokens"], "tokens_kept": kept})
    run.when_published.append(partial(_discard, run))


def _scratch(run: StageRun) -> Storage:
    """Where the tasks write: kept between attempts, but not between versions that may write otherwise."""
    scratch = Storage.at(run.workspace.storage.uri(_scratch_path(run)))
    if run.workspace.storage.exists(f"{_scratch_path(run)}{_HALF_GONE}"):
        _discard(run)
    return scratch


def _discard(run: StageRun) -> None:
    """Remove the tasks' files. A mark stands beside them meanwhile: records of tasks without their files, as
    a kill would leave them, must never be believed."""
    storage, path = run.workspace.storage, _scratch_path(run)
    storage.write_bytes(f"{path}{_HALF_GONE}", b"")
    storage.delete(path)
    storage.delete(f"{path}{_HALF_GONE}")


def _scratch_path(run: StageRun) -> str:
    return f"{run.path}/shards-{heliostat.__version__}"


def _nominate(near: NearWork) -> Candidates:
    """Where the work lies on several nodes, let them find the pairs together."""
    from heliostat.data.edge import nominate_by_shuffle, num_nodes

    return nominate_by_shuffle(near) if num_nodes() > 1 else nominate_here(near)


def _runner(config: DataConfig, run: StageRun) -> Runner:
    from heliostat.data.edge import ray_runner

    require_resources(config.resources, 1, "data preparation")
    return ray_runner(config.resources, run.log)
