"""Evaluate models: from models and a tokenized dataset to a report."""

from heliostat.evaluation.config import EvaluateConfig
from heliostat.evaluation.examples import Example
from heliostat.evaluation.report import scores_of, write_report
from heliostat.models.perplexity import DocumentLoss
from heliostat.ray_session import require_resources
from heliostat.records import Artifact
from heliostat.stage import Request, StageRun, find_or_make
from heliostat.storage import Publication
from heliostat.tokenized import require_same_tokenizer
from heliostat.workspace import Workspace, key_of

PERPLEXITY = "perplexity"


def evaluate_model(
    config: EvaluateConfig,
    models: dict[str, Artifact],
    dataset: Artifact,
    workspace: Workspace,
    force: bool = False,
) -> Artifact:
    """Score each model on the same held-out tokens and publish a report.

    Returns:
        A report artifact, as `report` describes it; `facts["perplexity"]` and `facts["loss"]` are by the
        models' names.

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
        totals, documents = score_models(config, models, dataset)
        examples = {name: {PERPLEXITY: _examples(each)} for name, each in documents.items()}
        one = next(iter(totals.values()))
        publication.facts.update(
            {
                "perplexity": {name: score.perplexity for name, score in totals.items()},
                "loss": {name: score.loss for name, score in totals.items()},
                "num_labels": one.num_labels,
                "num_documents": one.num_documents,
                "tokens": one.num_tokens,
                "models": {name: model.id for name, model in models.items()},
                "suites": {PERPLEXITY: key_of(dataset.content, config.split, str(config.max_tokens))},
                "scores": {
                    name: {suite: scores_of(each) for suite, each in suites.items()}
                    for name, suites in examples.items()
                },
            }
        )
        for metric in ("perplexity", "loss"):
            run.log({f"{metric}/{name}": value for name, value in publication.facts[metric].items()})
        write_report(publication.folder, config.name, publication.facts, examples)

    return find_or_make(workspace, request, evaluate, force)


def _examples(losses: list[DocumentLoss]) -> list[Example]:
    """An example for each document; one that lies in several sequences has their sums."""
    sums: dict[str, tuple[float, int]] = {}
    for each in losses:
        loss, labels = sums.get(each.id, (0.0, 0))
        sums[each.id] = (loss + each.loss_sum, labels + each.num_labels)
    return [
        Example(id=name, scores={"perplexity": [loss, float(labels)], "loss": [loss, float(labels)]})
        for name, (loss, labels) in sums.items()
        if labels
    ]
