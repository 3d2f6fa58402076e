"""Where evaluation meets Ray: a model's requests in shards, side by side as far as the cluster has room."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from heliostat.config import Resources
from heliostat.evaluation.answers import KeptAnswers
from heliostat.evaluation.config import ServedModel
from heliostat.evaluation.examples import Example
from heliostat.evaluation.local_model import LocalModel
from heliostat.evaluation.requests import Answer, Item, Model
from heliostat.evaluation.suite_config import LmEvalSuite, ToxicitySuite
from heliostat.evaluation.toxicity import open_judge
from heliostat.progress import progress
from heliostat.ray_tasks import stream, streaming_task
from heliostat.records import Artifact
from heliostat.storage import artifact_folder

BATCHES_WORTH_A_SHARD = 4  # loading a model takes some seconds
Batch = tuple[Item, ...]
Source = Artifact | ServedModel


@dataclass(frozen=True)
class Shard:
    """Batches for one process, which loads the model once."""

    model: str
    source: Source
    batches: tuple[Batch, ...]
    num_threads: int


@dataclass
class Plan:
    """All that is to be asked of all models; `alone` is asked one request after another, nothing beside."""

    sources: dict[str, Source]
    side_by_side: dict[str, list[Batch]] = field(default_factory=dict)
    alone: dict[str, list[Batch]] = field(default_factory=dict)

    @property
    def num_items(self) -> int:
        """Requests to all models."""
        batches = [
            batch for each in (self.side_by_side, self.alone) for some in each.values() for batch in some
        ]
        return sum(len(batch) for batch in batches)


def answer_shard(shard: Shard) -> Iterator[dict[str, dict[str, Answer]]]:
    """The task: yields the answers of each batch, by suite and the items' ids."""
    model = open_model(shard.source, shard.num_threads)
    for batch in shard.batches:
        answered: dict[str, dict[str, Answer]] = {}
        for item, answer in zip(batch, model.answer([item.request for item in batch]), strict=True):
            answered.setdefault(item.suite, {})[item.id] = answer
        yield answered


def open_model(source: Source, num_threads: int) -> Model:
    """A model that can be asked; errors as its class says."""
    if isinstance(source, ServedModel):
        from heliostat.evaluation.endpoint_model import EndpointModel

        return EndpointModel(source)
    return LocalModel(artifact_folder(source), num_threads)


def batches_of(items: list[Item], done: set[str], size: int) -> list[Batch]:
    """Items of like length together; always the same batches, so that what is left of one changes no number.

    A batch of which something is missing is asked again whole.
    """
    ordered = sorted(items, key=lambda item: item.size)
    batches = [tuple(ordered[at : at + size]) for at in range(0, len(ordered), size)]
    return [batch for batch in batches if any(item.id not in done for item in batch)]


def answer_all(plan: Plan, resources: Resources, kept: KeptAnswers) -> None:
    """Ask all models on the cluster; the answers are kept as they come.

    Raises:
        HeliostatError: what a task raised; the others are stopped.
    """
    threads = max(1, int(resources.num_cpus))
    shards = {
        f"{name} {number}": Shard(name, plan.sources[name], tuple(part), threads)
        for name, batches in plan.side_by_side.items()
        for number, part in enumerate(_parts(batches, _room(resources) // max(1, len(plan.side_by_side))))
    }
    done = 0
    with progress("evaluate", plan.num_items, "requests") as report:
        alone = {
            name: Shard(name, plan.sources[name], tuple(each), threads) for name, each in plan.alone.items()
        }
        phases = [shards, *({name: shard} for name, shard in alone.items() if shard.batches)]
        for phase in phases:
            task = streaming_task(answer_shard, resources)
            running = {name: task.remote(shard) for name, shard in phase.items()}
            for name, answered in stream(running):
                for suite, answers in answered.items():
                    kept.add(phase[name].model, suite, answers)
                    done += len(answers)
                report(done, phase[name].model)


def _parts(batches: list[Batch], most: int) -> list[list[Batch]]:
    """The batches dealt out to at most so many shards, to fewer where they would not be worth it."""
    number = max(1, min(most, math.ceil(len(batches) / BATCHES_WORTH_A_SHARD)))
    return [batches[at::number] for at in range(number)] if batches else []


def _room(resources: Resources) -> int:
    """How many tasks the cluster can work on at once."""
    import ray

    there = ray.cluster_resources()
    fits = [int(there.get("CPU", 0) / resources.num_cpus)] if resources.num_cpus else []
    fits += [int(there.get("GPU", 0) / resources.num_gpus)] if resources.num_gpus else []
    return max(1, min(fits, default=1))


def lm_eval_on_cluster(
    suite: LmEvalSuite, models: dict[str, Artifact], resources: Resources
) -> dict[str, dict[str, list[Example]]]:
    """Run lm_eval over every model, side by side; examples by model and task."""
    task = streaming_task(_lm_eval, resources)
    running = {
        name: task.remote(suite, model, max(1, int(resources.num_cpus))) for name, model in models.items()
    }
    with progress(f"evaluate {suite.name}", len(models), "models") as report:
        found: dict[str, dict[str, list[Example]]] = {}
        for name, examples in stream(running):
            found[name] = examples
            report(len(found))
    return found


def _lm_eval(suite: LmEvalSuite, model: Artifact, num_threads: int) -> Iterator[dict[str, list[Example]]]:
    from heliostat.evaluation.lm_eval_runs import run_lm_eval

    yield run_lm_eval(suite, artifact_folder(model), num_threads)


def judge_on_cluster(suite: ToxicitySuite, texts: list[str], resources: Resources) -> list[float]:
    """How toxic texts are, 0..1 each, by the suite's words or classifier."""
    running = {"judge": streaming_task(_judge, resources).remote(suite, texts)}
    (scores,) = [scores for _, scores in stream(running)]
    return list(scores)


def _judge(suite: ToxicitySuite, texts: list[str]) -> Iterator[list[float]]:
    yield open_judge(suite)(texts)
