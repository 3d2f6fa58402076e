"""Train a model: from a base model and a tokenized dataset to a merged model that stands on its own."""

import json
from dataclasses import dataclass
from typing import Any

from heliostat.models.importing import import_model
from heliostat.ray_session import require_resources
from heliostat.records import Artifact, ArtifactKind
from heliostat.stage import PartOf, Request, StageRun, find_or_make
from heliostat.storage import Publication, artifact_folder
from heliostat.tokenized import require_same_tokenizer
from heliostat.tracking import read_metrics
from heliostat.training.config import (
    DistillationObjective,
    FreezeAdapter,
    FullAdapter,
    LoraAdapter,
    TrainConfig,
)
from heliostat.training.follower import Follower
from heliostat.training.model_shape import ModelShape
from heliostat.training.objectives.preflight import open_rows, require_same_vocabulary
from heliostat.training.pieces import Piece, take_up
from heliostat.training.placement import check_placement
from heliostat.training.schedule import num_steps
from heliostat.workspace import Workspace


def train_model(
    config: TrainConfig,
    model: Artifact,
    dataset: Artifact,
    workspace: Workspace,
    force: bool = False,
    teacher: Artifact | None = None,
) -> Artifact:
    """Fine-tune `model` on `dataset` and publish the result; an interrupted run goes on where it was.

    `teacher` is what a distillation learns from in place of the one its objective names.

    Returns:
        A model artifact whose facts hold the steps, the loss in their first and last tenth and tokens/s.
        For LoRA its parents are the adapter, itself an artifact, and the base model.

    Raises:
        ClusterError: the cluster can never give the workers asked for.
        DataError: the dataset was tokenized with another tokenizer than the model's.
        TrainingError: a worker failed.
    """
    trained = train_parameters(TrainingInputs(config, model, dataset, teacher), workspace, force=force)
    if not isinstance(config.adapter, LoraAdapter):
        return trained  # what stands in front of a text is no part of any weight, and cannot be merged
    return _merge(config, model, trained, workspace, force)


@dataclass(frozen=True)
class TrainingInputs:
    """A config and the artifacts it is applied to. `teacher` takes the place of the one that a distillation
    names."""

    config: TrainConfig
    model: Artifact
    dataset: Artifact
    teacher: Artifact | None = None


@dataclass(frozen=True)
class Following:
    """What a run is a part of, and who follows it."""

    part_of: PartOf
    follower: Follower
    piece: Piece | None = None
    """What is made of it now, where that is not all."""


def train_parameters(
    given: TrainingInputs, workspace: Workspace, following: Following | None = None, force: bool = False
) -> Artifact:
    """What `train_model` does before it merges: the adapter, or the model where that is what is trained.

    Raises:
        StoppedError: the run was told to stop; its state is kept.
        HeliostatError: as `train_model`.
    """
    config, model, dataset = given.config, given.model, given.dataset
    require_same_tokenizer(dataset, model)
    check_model(config, model, dataset.facts.get("max_sequence_length"))
    for split in ("train", *((config.validation.split,) if config.validation else ())):
        open_rows(config.objective, artifact_folder(dataset), split)  # of the right kind, and not empty
    teacher = _teacher(given, workspace)
    parents = (model, dataset, *([teacher] if teacher else []))
    own = isinstance(config.adapter, (FullAdapter, FreezeAdapter))
    kind: ArtifactKind = "model" if own else "adapter"
    part_of = following.part_of if following else None
    goes_on = bool(following and following.piece and not following.piece.is_first)
    request = Request("train", kind, config.name, config, parents, part_of=part_of, goes_on=goes_on)

    def train(publication: Publication, run: StageRun) -> None:
        require_resources(config.resources_per_worker, config.min_workers, "train.num_workers")
        inputs = TrainingInputs(config, model, dataset, teacher)
        publication.facts.update(_train(publication, run, inputs, following))

    return find_or_make(workspace, request, train, force)


def check_model(config: TrainConfig, model: Artifact, max_sequence_length: int | None = None) -> None:
    """Refuse what this model cannot do under this layout, before any document is read or worker started.

    Raises:
        ConfigError: heads, layers or experts cannot be divided so; with the nearest that can.
    """
    shape = ModelShape.from_config_json(json.loads((artifact_folder(model) / "config.json").read_text()))
    check_placement(config, shape, max_sequence_length)


def _train(
    publication: Publication, run: StageRun, inputs: TrainingInputs, following: Following | None
) -> dict[str, Any]:
    from heliostat.training.edge import run_training
    from heliostat.training.job import TrainingJob

    rows = open_rows(inputs.config.objective, artifact_folder(inputs.dataset), "train")
    steps = num_steps(inputs.config, len(rows))
    job = TrainingJob(inputs.config, inputs.model, inputs.dataset, inputs.teacher)
    follower = following.follower if following else None
    if following and following.piece:
        job = take_up(following.piece, job, run, steps)
    if follower:
        follower.begin(run.record.id)
    try:
        trained = run_training(job, run, steps, publication.folder, follower)
    finally:  # who goes on may do so elsewhere
        run.keep_local_folder()
    history = read_metrics(run.local_folder)
    tenth = max(1, len(history) // 10)
    return {
        "steps": steps,
        "first_loss": _mean("loss", history[:tenth]),
        "last_loss": _mean("loss", history[-tenth:]),
        "tokens_per_second": _mean("tokens_per_second", history),
        **_last_validation(history),
        "trainable_parameters": trained.trainable_parameters,
        "all_parameters": trained.all_parameters,
        "tokenizer": inputs.model.facts["tokenizer"],
        "adapter_kind": inputs.config.adapter.kind,
        "objective": inputs.config.objective.kind,
    }


def _teacher(inputs: TrainingInputs, workspace: Workspace) -> Artifact | None:
    """What a distillation learns from, brought into the workspace."""
    objective = inputs.config.objective
    if not isinstance(objective, DistillationObjective):
        return None
    teacher = inputs.teacher or import_model(objective.teacher, workspace)
    require_same_vocabulary(artifact_folder(inputs.model), artifact_folder(teacher))
    return teacher


def _last_validation(history: list[dict[str, float]]) -> dict[str, float]:
    """Figures on held-out documents, where the workers scored them behind the last step."""
    return {name: value for name, value in history[-1].items() if name.startswith("validation_")}


def _mean(metric: str, entries: list[dict[str, float]]) -> float:
    return sum(entry[metric] for entry in entries) / len(entries)


def _merge(
    config: TrainConfig, model: Artifact, adapter: Artifact, workspace: Workspace, force: bool
) -> Artifact:
    request = Request("merge", "model", config.name, config.adapter, (adapter, model))

    def merge(publication: Publication, run: StageRun) -> None:
        from heliostat.training.edge import merge_on_cluster

        merge_on_cluster(config, artifact_folder(model), artifact_folder(adapter), publication.folder)
        publication.facts.update(adapter.facts | {"adapter": adapter.id})

    return find_or_make(workspace, request, merge, force)
