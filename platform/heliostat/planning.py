"""What a recipe's training runs need, from the recipe and the workspace alone: no cluster, no weights."""

from heliostat.errors import ConfigError
from heliostat.recipe import Recipe, Training
from heliostat.training.budget import steps_within
from heliostat.training.config import TrainConfig
from heliostat.training.plan import Plan, plan_training
from heliostat.training.plan_devices import Node
from heliostat.training.plan_inputs import PlanInputs, find_dataset, shape_of_model
from heliostat.workspace import Workspace


def run_named(recipe: Recipe, stage: str | None) -> Training:
    """The run of this name; without one `train`, else the first stage of pre-training.

    Raises:
        ConfigError: the recipe trains nothing, or has no run of this name.
    """
    runs = {run.name: run for run in recipe.trainings}
    if not runs:
        raise ConfigError(f"recipe {recipe.name!r} has no 'train:' and no 'pretrain:' section to plan")
    name = stage or ("train" if "train" in runs else next(iter(runs)))
    if name not in runs:
        raise ConfigError(f"--stage {name}: recipe {recipe.name!r} has {', '.join(runs)}")
    return runs[name]


def plan_run(recipe: Recipe, run: Training, workspace: Workspace, nodes: tuple[Node, ...]) -> Plan:
    """The plan of one of a recipe's runs, on each of these kinds of machines.

    Raises:
        ModelError: the model's sizes are not known, because it is not in the workspace.
        ConfigError: the model cannot be laid out so.
    """
    inputs = _inputs(recipe, run, workspace)
    return plan_training(_within_budget(run, inputs), inputs, nodes)


def _inputs(recipe: Recipe, run: Training, workspace: Workspace) -> PlanInputs:
    """What the workspace and the recipe tell of the model and of the data."""
    assert recipe.model is not None  # the recipe was checked: whoever trains has a model
    tokenize = run.data.tokenize
    inputs = PlanInputs.of(
        shape_of_model(recipe.model, workspace),
        tokenize.max_sequence_length,
        len(recipe.added_tokens),
        tokenize.packing,
    )
    return inputs.with_dataset(find_dataset(workspace, run.data.name, run.data.packing.canonical()))


def _within_budget(run: Training, inputs: PlanInputs) -> TrainConfig:
    """The run with as many steps as its tokens pay for; of rows that are full, as long as none are there."""
    if run.max_tokens is None:
        return run.train
    found = inputs.dataset
    tokens, rows = (found.tokens, found.sequences) if found else (inputs.max_sequence_length, 1)
    steps = steps_within(run.max_tokens, tokens, rows, run.train.sequences_per_step)
    return run.train.model_copy(update={"max_steps": steps})
