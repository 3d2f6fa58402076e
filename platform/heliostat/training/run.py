"""Train a model: from a base model and a tokenized dataset to a merged model that stands on its own."""

from typing import Any

from heliostat.ray_session import require_resources
from heliostat.records import Artifact
from heliostat.stage import Request, StageRun, find_or_make
from heliostat.storage import Publication, artifact_folder
from heliostat.tokenized import TokenizedDataset, require_same_tokenizer
from heliostat.tracking import read_metrics
from heliostat.training.config import LoraAdapter, TrainConfig
from heliostat.training.schedule import num_steps
from heliostat.workspace import Workspace


def train_model(
    config: TrainConfig, model: Artifact, dataset: Artifact, workspace: Workspace, force: bool = False
) -> Artifact:
    """Fine-tune `model` on `dataset` and publish the result; an interrupted run goes on where it was.

    Returns:
        A model artifact whose facts hold the steps, the loss in their first and last tenth and tokens/s.
        For LoRA its parents are the adapter, itself an artifact, and the base model.

    Raises:
        ClusterError: the cluster can never give the workers asked for.
        DataError: the dataset was tokenized with another tokenizer than the model's.
        TrainingError: a worker failed.
    """
    require_same_tokenizer(dataset, model)
    lora = isinstance(config.adapter, LoraAdapter)
    request = Request("train", "adapter" if lora else "model", config.name, config, (model, dataset))

    def train(publication: Publication, run: StageRun) -> None:
        require_resources(config.resources_per_worker, config.num_workers, "train.num_workers")
        publication.facts.update(_train(publication, run, config, model, dataset))

    trained = find_or_make(workspace, request, train, force)
    return _merge(config, model, trained, workspace, force) if lora else trained


def _train(
    publication: Publication, run: StageRun, config: TrainConfig, model: Artifact, dataset: Artifact
) -> dict[str, Any]:
    from heliostat.training.edge import run_training
    from heliostat.training.job import TrainingJob

    sequences = TokenizedDataset(artifact_folder(dataset), "train")
    steps = num_steps(config, len(sequences))
    last = run_training(TrainingJob(config, model, dataset), run, steps, publication.folder)
    run.keep_local_folder()
    history = read_metrics(run.local_folder)
    tenth = max(1, len(history) // 10)
    return {
        "steps": steps,
        "first_loss": _mean("loss", history[:tenth]),
        "last_loss": _mean("loss", history[-tenth:]),
        "tokens_per_second": _mean("tokens_per_second", history),
        "trainable_parameters": int(last["trainable_parameters"]),
        "all_parameters": int(last["all_parameters"]),
        "tokenizer": model.facts["tokenizer"],
    }


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
