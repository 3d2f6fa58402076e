"""Evaluate models: from models, suites and perhaps a tokenized dataset to a report."""

import logging
from typing import Any

import numpy as np

from heliostat.errors import EvaluationError
from heliostat.evaluation.answers import KeptAnswers
from heliostat.evaluation.config import EvaluateConfig
from heliostat.evaluation.efficiency import percentile_scores
from heliostat.evaluation.examples import Example, sums_of
from heliostat.evaluation.report import Scores, scores_of, write_report
from heliostat.evaluation.requests import ReadRow
from heliostat.evaluation.suite_config import EfficiencySuite, LmEvalSuite, PerplexitySuite, ToxicitySuite
from heliostat.evaluation.suites import AskedSuite, ask, check_names
from heliostat.evaluation.under_test import find_models
from heliostat.ray_session import require_resources
from heliostat.records import Artifact
from heliostat.stage import Request, StageRun, find_or_make
from heliostat.storage import Publication, artifact_folder
from heliostat.tokenized import TokenizedDataset, require_same_tokenizer
from heliostat.workspace import Workspace

logger = logging.getLogger(__name__)
Examples = dict[str, dict[str, list[Example]]]
"""By model and suite."""


def evaluate_model(
    config: EvaluateConfig,
    models: dict[str, Artifact],
    dataset: Artifact | None,
    workspace: Workspace,
    force: bool = False,
) -> Artifact:
    """Ask each model what the suites ask, and publish a report.

    `models` are those of the chain, by name; the config may name more. `dataset` is what a perplexity suite
    without a file reads. Answers are kept as they come: a run that was killed asks nothing twice.

    Returns:
        A report artifact, as `report` describes it; with a perplexity suite also `facts["perplexity"]` and
        `facts["loss"]` by the models' names.

    Raises:
        ClusterError: the cluster can never give what one model needs.
        ConfigError: a file of a suite is missing or says what it cannot.
        DataError: there is nothing to score, or the split was tokenized for another model.
        EvaluationError: there is no model, or an endpoint cannot be asked.
        ModelError: a model cannot be loaded.
    """
    models = models | find_models(config.models, workspace)
    if not models and not config.endpoints:
        raise EvaluationError("there is no model to evaluate; name one in 'evaluate.models' or 'endpoints'")
    split = None
    if config.needs_dataset and dataset is not None:
        for model in models.values():
            require_same_tokenizer(dataset, model)
        split = TokenizedDataset(artifact_folder(dataset), config.split)
    asked = [ask(config, suite, split, dataset.content if dataset else "") for suite in config.asked]
    check_names([each.name for each in asked])
    _check_endpoints(config, asked)
    parents = (*models.values(), *([dataset] if split and dataset else []))
    sources = "\n".join([*models, *config.endpoints, *(each.fingerprint for each in asked)])
    request = Request("evaluate", "report", config.name, config, parents, sources)

    def evaluate(publication: Publication, run: StageRun) -> None:
        require_resources(config.resources, 1, "evaluate.resources")
        examples = _all_examples(config, models, asked, KeptAnswers(run.local_folder))
        publication.facts.update(_facts(config, models, asked, examples))
        write_report(publication.folder, config.name, publication.facts, examples)
        _log(run, publication.facts)

    return find_or_make(workspace, request, evaluate, force)


def _check_endpoints(config: EvaluateConfig, asked: list[AskedSuite]) -> None:
    """An endpoint is not asked for likelihoods; it is refused where there is nothing else to ask."""
    for name in config.endpoints:
        left_out = [each.name for each in asked if not _can_ask(each)]
        if len(left_out) == len(asked):
            raise EvaluationError(
                f"endpoint '{name}' tells no likelihoods, which {', '.join(left_out)} ask for; "
                "add a suite of written answers, or evaluate the model's folder"
            )
        if left_out:
            logger.warning("endpoint '%s' tells no likelihoods: without %s", name, ", ".join(left_out))


def _can_ask(suite: AskedSuite) -> bool:
    return not suite.needs_likelihoods and not isinstance(suite.suite, LmEvalSuite)


def _all_examples(
    config: EvaluateConfig, models: dict[str, Artifact], asked: list[AskedSuite], kept: KeptAnswers
) -> Examples:
    from heliostat.evaluation import edge

    plan = edge.Plan({**models, **config.endpoints})
    for name in plan.sources:
        for each in asked:
            if name in config.endpoints and not _can_ask(each):
                continue
            size = 1 if each.alone else config.micro_batch_size
            batches = edge.batches_of(list(each.items), set(kept.read(name, each.name)), size)
            (plan.alone if each.alone else plan.side_by_side).setdefault(name, []).extend(batches)
    edge.answer_all(plan, config.resources, kept)
    examples: Examples = {name: {} for name in plan.sources}
    for each in asked:
        if isinstance(each.suite, LmEvalSuite):
            for name, tasks in edge.lm_eval_on_cluster(each.suite, models, config.resources).items():
                examples[name] |= {f"{each.name}-{task}": found for task, found in tasks.items()}
            continue
        for name in plan.sources:
            if name in config.endpoints and not _can_ask(each):
                continue
            found = each.examples(kept.read(name, each.name))
            if isinstance(each.suite, ToxicitySuite):
                toxic = edge.judge_on_cluster(
                    each.suite, [str(one.output) for one in found], config.resources
                )
                found = [
                    one.model_copy(update={"scores": {"toxicity": score}})
                    for one, score in zip(found, toxic, strict=True)
                ]
            examples[name][each.name] = found
    return examples


def _facts(
    config: EvaluateConfig, models: dict[str, Artifact], asked: list[AskedSuite], examples: Examples
) -> dict[str, Any]:
    by_name = {each.name: each for each in asked}
    fingerprints = {each.name: each.fingerprint for each in asked}
    suites = {name: None for each in examples.values() for name in each}
    facts: dict[str, Any] = {
        "models": {name: model.id for name, model in models.items()}
        | {name: f"{served.url} {served.model}" for name, served in config.endpoints.items()},
        "suites": {name: fingerprints.get(name) or fingerprints[_harness(name, by_name)] for name in suites},
        "scores": {
            name: {suite: _scores(found, by_name.get(suite)) for suite, found in each.items()}
            for name, each in examples.items()
        },
    }
    return facts | _perplexity_facts(asked, facts["scores"])


def _harness(name: str, by_name: dict[str, AskedSuite]) -> str:
    """The suite of lm_eval that a task's name begins with."""
    return next(suite for suite in by_name if name.startswith(f"{suite}-"))


def _scores(examples: list[Example], asked: AskedSuite | None) -> dict[str, dict[str, Any]]:
    scores = scores_of(examples)
    if asked and isinstance(asked.suite, EfficiencySuite):
        for name in ("latency_seconds", "first_token_seconds"):
            scores |= percentile_scores(np.asarray(sums_of(examples, name)[:, 0]), name)
    return scores


def _perplexity_facts(asked: list[AskedSuite], scores: dict[str, Scores]) -> dict[str, Any]:
    """What the chain's summary shows: by model, of the first perplexity suite; and how much was read."""
    first = next((each for each in asked if isinstance(each.suite, PerplexitySuite)), None)
    if first is None:
        return {}
    facts: dict[str, Any] = {
        "perplexity": {
            name: each[first.name]["perplexity"]["value"]
            for name, each in scores.items()
            if first.name in each
        }
    }
    facts["loss"] = {name: float(np.log(value)) for name, value in facts["perplexity"].items()}
    rows = [item.request.sequence for item in first.items if isinstance(item.request, ReadRow)]
    if rows:
        facts["num_labels"] = sum(row.num_labels for row in rows)
        facts["num_documents"] = sum(len(row.document_lengths) for row in rows)
        facts["tokens"] = sum(len(row.input_ids) for row in rows)
    return facts


def _log(run: StageRun, facts: dict[str, Any]) -> None:
    for metric in ("perplexity", "loss"):
        run.log({f"{metric}/{name}": value for name, value in facts.get(metric, {}).items()})
    run.log(
        {
            f"{suite}/{metric}/{name}": float(found["value"])
            for name, suites in facts["scores"].items()
            for suite, metrics in suites.items()
            for metric, found in metrics.items()
            if np.isfinite(found["value"])
        }
    )
