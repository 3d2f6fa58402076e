"""The chain of stages. A stage whose config and inputs did not change is found, not run again."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from heliostat.compression.config import CompressStep, OpenVINOConfig
from heliostat.compression.run import check_step, compress_model
from heliostat.data.run import prepare_data
from heliostat.endpoints import mark_stopped
from heliostat.errors import ModelError
from heliostat.evaluation.run import evaluate_model
from heliostat.job_folder import StageNotes
from heliostat.locks import using
from heliostat.models.added_tokens import add_tokens
from heliostat.models.from_scratch import make_model
from heliostat.models.importing import import_model
from heliostat.ray_session import joined_cluster, require_resources
from heliostat.recipe import PretrainStage, PruneStep, Recipe
from heliostat.recipe_parts import check_recipe
from heliostat.records import Artifact, now, submission_id
from heliostat.serving.adapters import check_bases, open_adapters
from heliostat.serving.config import ServeConfig
from heliostat.serving.run import check_endpoint, deploy_model, shutdown_endpoint
from heliostat.summary import StageLine, describe, print_answer, print_curl, print_summary
from heliostat.tracking import check_reachable, tracking_uri
from heliostat.training.budget import steps_within
from heliostat.training.config import TrainConfig
from heliostat.training.run import check_model, train_model
from heliostat.tuning.config import TuneConfig
from heliostat.tuning.run import SweepInputs, settings_of, tune_hyperparameters
from heliostat.tuning.settings import Settings
from heliostat.versions.registering import register_artifact
from heliostat.workspace import Workspace

Result = TypeVar("Result")


@dataclass
class Chain:
    """What the stages have made so far. `models` goes by the names of the summary: base, those of
    the stages of pre-training, tuned, int8."""

    num_steps: int
    models: dict[str, Artifact] = field(default_factory=dict)
    dataset: Artifact | None = None
    report: Artifact | None = None
    sweep: Artifact | None = None
    answer: dict[str, float] = field(default_factory=dict)
    done: int = 0
    notes: StageNotes | None = None
    """Kept where this is a submitted job."""

    @property
    def newest(self) -> Artifact:
        """The model the next stage works on."""
        return self._last("model")

    @property
    def trained_uri(self) -> str:
        """Where the trained model is; of a sweep that nothing came behind, the best trial's."""
        if self.sweep and "tuned" not in self.models:
            return str(self.sweep.facts["best"]["artifact_uri"])
        return self.models.get("tuned", self.newest).uri

    @property
    def servable(self) -> Artifact:
        """The newest model that an engine here reads."""
        return self._last("model", "quantized")

    def _last(self, *kinds: str) -> Artifact:
        return [model for model in self.models.values() if model.kind in kinds][-1]

    @property
    def data(self) -> Artifact:
        """The tokenized dataset; the recipe was checked to have a data section where one is needed."""
        assert self.dataset is not None
        return self.dataset

    def step(self, title: str, work: Callable[[], Result]) -> Result:
        """Do one stage's work under a line of its own."""
        self.done += 1
        started = now()
        with StageLine(f"[{self.done}/{self.num_steps}] {title}") as line, self._noted(title) as note:
            result = work()
            line.found = isinstance(result, Artifact) and result.created_at < started
            line.result = result
            note |= {"state": "found" if line.found else "made", "says": describe(result)}
            if isinstance(result, Artifact):
                note |= {"artifact": result.id, "artifact_kind": result.kind}
        return result

    @contextmanager
    def _noted(self, title: str) -> Iterator[dict[str, str]]:
        """Keep the stage's note in the job's folder; what is put into the dictionary is how it ended."""
        note = {"state": "failed"}
        if self.notes:
            self.notes.begin(title)
        try:
            yield note
        finally:
            if self.notes:
                self.notes.end(**note)


def run_pipeline(
    recipe: Recipe,
    workspace: Workspace,
    until: str | None = None,
    force: bool = False,
    keep: bool = False,
    promote: str | None = None,
) -> None:
    """Run the recipe's stages up to `until`, print a line for each and a table at the end.

    Needs a Ray session around it. `force` makes everything again. An endpoint on a cluster that was joined
    stays; one on a local cluster ends with it, at once or, with `keep`, when the process is told to stop.
    With `promote`, a name, what was trained becomes its next version and candidate.

    Raises:
        HeliostatError: whatever a stage refuses; what was finished before is kept and found next time.
    """
    stages = recipe.stages[: recipe.stages.index(until) + 1] if until else recipe.stages
    with using(workspace.storage):  # what one stage leaves is not collected before the next one reads it
        _check_before_work(recipe, stages, workspace)
        num_steps, job_id = _num_steps(recipe, stages), submission_id()
        notes = StageNotes(workspace.storage, job_id, num_steps) if job_id else None
        chain = Chain(num_steps, notes=notes)
        _make_models(recipe, stages, chain, workspace, force)
        if promote is not None:
            made = register_artifact(chain.trained_uri, promote, workspace, candidate=True)
            print(f"{made.reference} is candidate now: {made.artifact_id}", flush=True)
        if recipe.serve is None or "serve" not in stages:
            print_summary(chain.models, chain.dataset, chain.report, chain.answer)
            return
        _serve(recipe, recipe.serve, chain, workspace, keep)


def _num_steps(recipe: Recipe, stages: tuple[str, ...]) -> int:
    """A line each: the documents a tokenizer is learned from, the model, data and training of each stage of
    pre-training, and the other stages."""
    others = len([stage for stage in stages if stage not in ("pretrain", "compress")])
    for step in recipe.compress if "compress" in stages else ():
        others += 3 if isinstance(step, PruneStep) and step.heal else 1
    before = bool(recipe.model) + bool(recipe.tokenizer_data)
    return before + others + (2 * len(recipe.pretrain) if "pretrain" in stages else 0)


def _trainings(recipe: Recipe, stages: tuple[str, ...]) -> dict[str, TrainConfig]:
    """The runs ahead, by the name of their section."""
    return {run.name: run.train for run in recipe.trainings if run.stage in stages}


def _check_before_work(recipe: Recipe, stages: tuple[str, ...], workspace: Workspace) -> None:
    """Refuse in seconds what would otherwise fail after the stages before it have worked for hours."""
    workspace.storage.check_writable()
    check_reachable(tracking_uri(workspace))
    check_recipe(recipe.up_to(stages[-1]) if stages else recipe, workspace)
    for name, train in _trainings(recipe, stages).items():
        require_resources(train.resources_per_worker, train.min_workers, f"{name}.num_workers")
    if recipe.evaluate and "evaluate" in stages:
        require_resources(recipe.evaluate.resources, 1, "evaluate.resources")
    for step in recipe.compress if "compress" in stages else ():
        require_resources(step.resources, 1, "compress.resources")
        if isinstance(step, PruneStep) and step.heal:
            require_resources(step.heal.resources_per_worker, step.heal.min_workers, "heal.num_workers")
    if recipe.serve and "serve" in stages:
        require_resources(recipe.serve.resources, recipe.serve.num_replicas, "serve.num_replicas")
        check_endpoint(recipe.serve, workspace)


def _make_models(
    recipe: Recipe, stages: tuple[str, ...], chain: Chain, workspace: Workspace, force: bool
) -> None:
    """Everything that ends in files: the base model, the dataset, the trained model, its scores, its INT8."""
    data = recipe.data
    if recipe.model:
        chain.models["base"] = base = _base_model(recipe, chain, workspace, force)
        for config in _trainings(recipe, stages).values():
            check_model(config, base)
        for step in recipe.compress if "compress" in stages else ():
            check_step(step, base)
        _check_adapters(recipe, stages, base, workspace)
    for stage in recipe.pretrain if "pretrain" in stages else ():
        chain.models[stage.name] = _pretrain(stage, chain, workspace, force)
    if data and "data" in stages:
        chain.dataset = chain.step(
            "data", lambda: prepare_data(data, chain.models.get("base"), workspace, force)
        )
    train = recipe.train
    if recipe.tune and train and "tune" in stages:
        train = _tune(recipe, recipe.tune, train, chain, workspace, force)
    if train and "train" in stages:
        tuned = chain.step("train", lambda: train_model(train, chain.newest, chain.data, workspace, force))
        chain.models["tuned"] = tuned
    if recipe.evaluate and "evaluate" in stages:
        evaluate, models = recipe.evaluate, dict(chain.models)
        chain.report = chain.step(
            "evaluate", lambda: evaluate_model(evaluate, models, chain.dataset, workspace, force)
        )
    for step in recipe.compress if "compress" in stages else ():
        _compress(step, chain, workspace, force)


def _check_adapters(recipe: Recipe, stages: tuple[str, ...], base: Artifact, workspace: Workspace) -> None:
    """Refuse adapters of another model before the export, where the base model is what is served."""
    changed = {"pretrain", "tune", "train"}.intersection(stages)
    exported = all(isinstance(step, OpenVINOConfig) for step in recipe.compress)
    if recipe.serve and "serve" in stages and exported and not changed:
        check_bases(recipe.serve, open_adapters(recipe.serve, workspace), base)


def _compress(step: CompressStep, chain: Chain, workspace: Workspace, force: bool) -> None:
    """Compress the newest model; what comes out goes by its scheme."""
    name = step.scheme_name
    if isinstance(step, PruneStep):
        chain.models[name] = _prune(step, chain, workspace, force)
        return
    chain.models[name] = chain.step(
        f"compress {name}", lambda: compress_model(step, chain.newest, chain.data, workspace, force)
    )


def _prune(step: PruneStep, chain: Chain, workspace: Workspace, force: bool) -> Artifact:
    """Prune the newest model; heal it with itself as the teacher; let it through if it reads well enough."""
    whole, data, heal = chain.newest, chain.data, step.heal
    name = step.scheme_name
    pruned = chain.step(
        f"compress {name}", lambda: compress_model(step.pruning, whole, data, workspace, force)
    )
    if heal is None:
        return pruned
    healed = chain.step(
        f"heal {name}", lambda: train_model(heal, pruned, data, workspace, force, teacher=whole)
    )
    return chain.step(
        f"compare {name}",
        lambda: compress_model(step.acceptance, whole, data, workspace, force, others=(healed,)),
    )


def _tune(
    recipe: Recipe, tune: TuneConfig, train: TrainConfig, chain: Chain, workspace: Workspace, force: bool
) -> TrainConfig:
    """The best trial's training; where its model was searched, too, that is the chain's base from now on."""
    assert recipe.model is not None, "whoever trains has a model"
    start = Settings(train=train, model=recipe.model)
    data = recipe.tokenizer_data
    documents = prepare_data(data, None, workspace) if data else None
    shaped = any(key.startswith("model.") for key in tune.search_space)
    inputs = SweepInputs(None if shaped else chain.newest, chain.data, documents)
    chain.sweep = chain.step("tune", lambda: tune_hyperparameters(tune, start, inputs, workspace, force))
    best = settings_of(chain.sweep)
    if not isinstance(best.model, str) and shaped:
        chain.models["base"] = make_model(best.model, documents, workspace)
    return best.train


def _base_model(recipe: Recipe, chain: Chain, workspace: Workspace, force: bool) -> Artifact:
    """The model that is imported or built, with its added tokens.

    A tokenizer is learned from cleaned documents, so these come first; as no model has a say in them, the
    stage that tokenizes them finds them.
    """
    documents: Artifact | None = None
    data = recipe.tokenizer_data
    if data:
        documents = chain.step("documents", lambda: prepare_data(data, None, workspace, force))

    def make() -> Artifact:
        model = recipe.model
        assert model is not None
        if isinstance(model, str):
            base = import_model(model, workspace, force)
            _check_kind(recipe, base)
        else:
            base = make_model(model, documents, workspace, force)
        return add_tokens(base, recipe.added_tokens, workspace, force) if recipe.added_tokens else base

    return chain.step("model", make)


def _check_kind(recipe: Recipe, base: Artifact) -> None:
    """A compressed version can be scored and served, and no more."""
    asked = (*recipe.stages, *(["added_tokens"] if recipe.added_tokens else []))
    further = [each for each in asked if each in ("pretrain", "train", "compress", "added_tokens")]
    if base.kind == "model" or not further:
        return
    raise ModelError(
        f"model: {recipe.model} is of kind {base.kind}, and '{further[0]}:' starts from an uncompressed "
        f"model; name what it was made from ('heliostat models lineage {recipe.model}' shows it)"
    )


def _pretrain(stage: PretrainStage, chain: Chain, workspace: Workspace, force: bool) -> Artifact:
    """The model that the stage makes of the newest one."""
    base = chain.models["base"]  # all models of a chain have its tokenizer
    dataset = chain.step(f"{stage.name} data", lambda: prepare_data(stage.data, base, workspace, force))
    train = _within_budget(stage, dataset)
    return chain.step(stage.name, lambda: train_model(train, chain.newest, dataset, workspace, force))


def _within_budget(stage: PretrainStage, dataset: Artifact) -> TrainConfig:
    """The stage's training with as many steps as its tokens pay for."""
    if stage.max_tokens is None:
        return stage.train
    split = dataset.facts["splits"]["train"]
    steps = steps_within(stage.max_tokens, split["tokens"], split["rows"], stage.train.sequences_per_step)
    return stage.train.model_copy(update={"max_steps": steps})


def _serve(recipe: Recipe, config: ServeConfig, chain: Chain, workspace: Workspace, keep: bool) -> None:
    endpoint = chain.step("serve", lambda: deploy_model(config, chain.servable, workspace))
    told_to_stop = keep
    try:
        if recipe.question:
            chain.answer = print_answer(endpoint, recipe.question)
        print_summary(chain.models, chain.dataset, chain.report, chain.answer)
        if keep or joined_cluster():
            print_curl(endpoint, recipe.question or "Hello!")
        if keep:
            print("Ctrl-C stops the endpoint.", flush=True)
            _wait_for_stop()
    except KeyboardInterrupt:
        told_to_stop = True
        raise
    finally:
        if told_to_stop and not joined_cluster():
            # The cluster ends next, and the endpoint with it. A signal to the whole process group may have
            # ended parts of it already, and then a request to delete the endpoint would never be answered.
            mark_stopped(endpoint)
        elif keep or not joined_cluster():
            shutdown_endpoint(endpoint)


def _wait_for_stop() -> None:
    """Return on SIGTERM or Ctrl-C."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        stop.wait()
    except KeyboardInterrupt:
        return
