"""Evaluate models: from models and a tokenized dataset to a report."""

from typing import Any

from heliostat.evaluation.config import EvaluateConfig
from heliostat.evaluation.metrics import table_of
from heliostat.evaluation.report import write_report
from heliostat.models.perplexity import Score
from heliostat.ray_session import require_resources
from heliostat.records import Artifact
from heliostat.stage import Request, StageRun, find_or_make
from heliostat.storage import Publication
from heliostat.tokenized import require_same_tokenizer
from heliostat.workspace import Workspace


def evaluate_model(
    config: EvaluateConfig,
    models: dict[str, Artifact],
    dataset: Artifact,
    workspace: Workspace,
    force: bool = False,
) -> Artifact:
    """Score each model on the same held-out tokens and publish a report.

    Returns:
        A report artifact; `facts["perplexity"]` and `facts["loss"]` are by the models' names.

    Raises:
        ClusterError: the cluster can never give what one model needs.
        DataError: the split is empty, or was tokenized with another tokenizer than a model's.
        ModelError: a model cannot be loaded.
    """
    for model in models.values():
        require_same_tokenizer(dataset, model)
    parents = (*models.values(), dataset)
    request = Request("evaluate", "report", config.name, config, parents, sources="\n".join(models))

    def evaluate(publication: Publication, run: StageRun) -> None:
        from heliostat.evaluation.edge import score_models

        require_resources(config.resources, 1, "evaluate.resources")
        scores = score_models(config, models, dataset)
        publication.facts.update(_facts(scores))
        for metric, values in table_of(scores).items():
            run.log({f"{metric}/{name}": value for name, value in values.items()})
        write_report(publication.folder, config.name, publication.facts, scores)

    return find_or_make(workspace, request, evaluate, force)


def _facts(scores: dict[str, Score]) -> dict[str, Any]:
    """The metrics, and how much was scored, which is the same for every model."""
    one = next(iter(scores.values()))
    return {
        **table_of(scores),
        "num_labels": one.num_labels,
        "num_documents": one.num_documents,
        "tokens": one.num_tokens,
    }
