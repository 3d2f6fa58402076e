"""Train a model: from a base model and a tokenized dataset to a merged model that stands on its own."""

import json
from dataclasses import dataclass
from typing import Any

from heliostat.models.importing import import_model
from heliostat.ray_session import require_resources
from heliostat.records import Artifact
from heliostat.stage import Request, StageRun, find_or_make
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
from heliostat.training.model_shape import ModelShape
from heliostat.training.objectives.preflight import open_rows, require_same_vocabulary
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
    require_same_tokenizer(dataset, model)
    check_model(config, model, dataset.facts.get("max_sequence_length"))
    for split in ("train", *((config.validation.split,) if config.validation else ())):
        open_rows(config.objective, artifact_folder(dataset), split)  # of the right kind, and not empty
    teacher = _teacher(config, model, workspace, teacher)
    parents = (model, dataset, *([teacher] if teacher else []))
    own = isinstance(config.adapter, (FullAdapter, FreezeAdapter))
    request = Request("train", "model" if own else "adapter", config.name, config, parents)

    def train(publication: Publication, run: StageRun) -> None:
        require_resources(config.resources_per_worker, config.min_workers, "train.num_workers")
        publication.facts.update(_train(publication, run, TrainingInputs(config, model, dataset, teacher)))

    trained = find_or_make(workspace, request, train, force)
    if not isinstance(config.adapter, LoraAdapter):
        return trained  # what stands in front of a text is no part of any weight, and cannot be merged
    return _merge(config, model, trained, workspace, force)


def check_model(config: TrainConfig, model: Artifact, max_sequence_length: int | None = None) -> None:
    """Refuse what this model cannot do under this layout, before any document is read or worker started.

    Raises:
        ConfigError: heads, layers or experts cannot be divided so; with the nearest that can.
    """
    shape = ModelShape.from_config_json(json.loads((artifact_folder(model) / "config.json").read_text()))
    check_placement(config, shape, max_sequence_length)


@dataclass(frozen=True)
class TrainingInputs:
    """A config and the artifacts it is applied to."""

    config: TrainConfig
    model: Artifact
    dataset: Artifact
    teacher: Artifact | None


def _train(publication: Publication, run: StageRun, inputs: TrainingInputs) -> dict[str, Any]:
    from heliostat.training.edge import run_training
    from heliostat.training.job import TrainingJob

    rows = open_rows(inputs.config.objective, artifact_folder(inputs.dataset), "train")
    steps = num_steps(inputs.config, len(rows))
    job = TrainingJob(inputs.config, inputs.model, inputs.dataset, inputs.teacher)
    trained = run_training(job, run, steps, publication.folder)
    run.keep_local_folder()
    history = read_metrics(run.local_folder)
    tenth = max(1, len(history) // 10)
    return {
        "steps": steps,
        "first_loss": _mean("loss", history[:tenth]),
        "last_loss": _mean("loss", history[-tenth:]),
        "tokens_per_second": _mean("tokens_per_second", history),
        "trainable_parameters": trained.trainable_parameters,
        "all_parameters": trained.all_parameters,
        "tokenizer": inputs.model.facts["tokenizer"],
        "adapter_kind": inputs.config.adapter.kind,
        "objective": inputs.config.objective.kind,
    }


def _teacher(
    config: TrainConfig, model: Artifact, workspace: Workspace, given: Artifact | None
) -> Artifact | None:
    """What a distillation learns from, brought into the workspace."""
    if not isinstance(config.objective, DistillationObjective):
        return None
    teacher = given or import_model(config.objective.teacher, workspace)
    require_same_vocabulary(artifact_folder(model), artifact_folder(teacher))
    return teacher


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
