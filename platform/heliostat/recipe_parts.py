"""A recipe looked at part by part, without a cluster: what each comes to in words, or why it cannot be."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from heliostat.compression.config import CompressStep, MergeConfig
from heliostat.data.config import DataConfig
from heliostat.data.references import check_references
from heliostat.data.sources import check_sources
from heliostat.evaluation.suites import check_suites
from heliostat.models.importing import check_reference
from heliostat.models.scratch_config import DeepseekMoeModel, LlamaModel
from heliostat.recipe import PretrainStage, PruneStep, Recipe, length_of
from heliostat.training.config import TrainConfig
from heliostat.training.placement import check_placement
from heliostat.training.plan_inputs import is_known_at_once, shape_of_model
from heliostat.tuning.config import TuneConfig
from heliostat.tuning.settings import Space
from heliostat.workspace import Workspace


def check_recipe(recipe: Recipe, workspace: Workspace | None = None) -> list[str]:
    """Look at everything that can be looked at without a cluster; returns what was found, a line each.

    Versions that the recipe names are looked up in the workspace, if one is given.

    Raises:
        HeliostatError: the base model is unknown or unsafe, or a source cannot be read.
    """
    return [line for part in parts_of(recipe, workspace) for line in part.look()]


class Part(NamedTuple):
    """A part of a recipe to look at: `look` says what was found, a line each, or raises as `check_recipe`."""

    name: str
    look: Callable[[], list[str]]


def parts_of(recipe: Recipe, workspace: Workspace | None = None) -> list[Part]:
    """What `check_recipe` looks at, one by one, in the order of the recipe."""
    parts = []
    if model := recipe.model:
        parts.append(Part("model", lambda: [f"model: {_check_model(model, workspace)}"]))
    for stage in recipe.pretrain:
        parts.append(Part(f"pretrain {stage.name}", partial(_check_stage, stage)))
    if data := recipe.data:
        parts.append(Part("data", lambda: [_check_data("data", data)]))
    parts.append(Part("layout", partial(_check_layouts, recipe)))
    if tune := recipe.tune:
        parts.append(Part("tune", lambda: _check_tune(recipe, tune)))
    if train := recipe.train:
        parts.append(Part("train", lambda: [f"train: {_say_training(train, length_of(train))}"]))
    if evaluate := recipe.evaluate:
        parts.append(Part("evaluate", lambda: check_suites(evaluate)))
    if recipe.compress:
        parts.append(Part("compress", lambda: [f"compress: {_check_step(step)}" for step in recipe.compress]))
    said = f"stages: {', '.join(recipe.stages) or 'only the import of the model'}"
    return [*parts, Part("stages", lambda: [said])]


def check_layouts(recipe: Recipe) -> None:
    """Refuse layouts that the model cannot have, as far as its sizes are known before it is imported.

    Raises:
        ConfigError: what does not go together, and the nearest that does.
    """
    if recipe.model is None or not is_known_at_once(recipe.model):
        return
    for run in recipe.trainings:
        check_placement(run.train, shape_of_model(recipe.model), run.data.tokenize.max_sequence_length)


def _check_layouts(recipe: Recipe) -> list[str]:
    check_layouts(recipe)
    return []


def _check_model(model: str | DeepseekMoeModel | LlamaModel, workspace: Workspace | None) -> str:
    if isinstance(model, str):
        return check_reference(model, workspace)
    from heliostat.models.from_scratch import check_scratch

    return check_scratch(model)


def _check_stage(stage: PretrainStage) -> list[str]:
    title = f"pretrain {stage.name}"
    return [_check_data(title, stage.data), f"{title}: {_say_training(stage.train, stage.length)}"]


def _check_tune(recipe: Recipe, tune: TuneConfig) -> list[str]:
    assert recipe.train is not None, "the chain was checked"
    assert recipe.model is not None, "the chain was checked"
    refused = Space.around(tune, recipe.train, recipe.model).check()
    said = f"tune: {tune.num_trials} trials of {tune.searcher.kind}, scheduler {tune.scheduler.kind}"
    return [said, *(f"tune: left out: {line}" for line in refused)]


def _check_data(title: str, data: DataConfig) -> str:
    check_sources(data)
    check_references(data.cleaning)
    return f"{title}: {len(data.sources)} source(s), {len(data.steps)} step(s)"


def _check_step(step: CompressStep) -> str:
    said = step.scheme_name
    if isinstance(step, MergeConfig):
        from heliostat.compression.merging import open_adapters

        said += f", {len(open_adapters(step))} adapter(s)"
    if isinstance(step, PruneStep) and step.heal:
        said += f", healed by {_say_training(step.heal, length_of(step.heal))}"
    return f"{said}, at most {step.max_loss:+.0%} perplexity"


def _say_training(train: TrainConfig, length: str) -> str:
    return (
        f"{train.adapter.kind}, {length} of {train.sequences_per_step} packed sequences "
        f"({train.replicas(train.max_workers)} replica(s) x {train.micro_batch_size} x "
        f"{train.micro_batches(train.max_workers)} accumulated)"
    )
