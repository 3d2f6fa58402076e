"""What a recipe's training runs need of a machine, and whether what they report will be seen."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from heliostat.control.checks import Check, Question, of_error, ok, refused, skipped, warning
from heliostat.control.preflight_place import Setting
from heliostat.errors import ConfigError, ModelError
from heliostat.planning import plan_run
from heliostat.recipe import Training
from heliostat.training.plan import Plan
from heliostat.training.plan_devices import USABLE, Device, Node, available_bytes

GB = 10**9
PROBABLY_LONG = 50
"""Steps behind which a person would be sorry to begin again."""


def training_questions(setting: Setting) -> list[Question]:
    """The checks of this file, for each run."""
    questions = [Question("splits", lambda: check_splits(setting))] if setting.recipe.trainings else []
    for run in setting.recipe.trainings:
        questions.append(Question(f"memory of {run.name}", partial(check_memory, setting, run)))
        questions.append(Question(f"intervals of {run.name}", partial(check_intervals, setting, run)))
    return questions


def check_memory(setting: Setting, run: Training) -> Check | list[Check]:
    """The memory a worker needs; without a cluster, against this machine's."""
    name = f"memory of {run.name}"
    workers = run.train.max_workers
    is_here = setting.address is None and not run.train.use_gpu
    here = machine("this machine", run, workers, available_bytes()) if is_here else None
    try:
        plan = plan_run(setting.recipe, run, setting.workspace, (here,) if here else ())
    except ModelError as error:
        return of_error(name, error, "skipped")
    except ConfigError:  # the check of the layout says so
        return []
    says = needed_memory(plan)
    facts = {"peak_bytes": plan.worker.peak, "num_workers": plan.num_workers, "on_gpu": run.train.use_gpu}
    if here is None:
        return ok(name, says, **facts)
    return judge_memory(name, plan, here, facts)


def needed_memory(plan: Plan) -> str:
    """What the workers of a plan need, in words."""
    worker = plan.worker
    parts = f"weights {_gb(worker.weights)}, gradients {_gb(worker.gradients)}, "
    parts += f"optimizer {_gb(worker.optimizer)}, activations {_gb(worker.activations)}"
    return f"{plan.num_workers} worker(s) of {_gb(worker.peak)} GB each at most ({parts})"


def machine(name: str, run: Training, sharing: int, memory_bytes: int, gpu_bytes: int | None = None) -> Node:
    """A machine whose memory so many of a run's workers share; with `gpu_bytes` each has a GPU."""
    speeds = dict.fromkeys(("fp32", "bf16", "fp16", "fp8"), 1.0)
    device = Device("worker", gpu_bytes or memory_bytes // sharing, speeds)
    return Node(name, device, sharing if gpu_bytes else run.train.max_workers, memory_bytes, bool(gpu_bytes))


def judge_memory(name: str, plan: Plan, node: Node, facts: Mapping[str, Any]) -> Check:
    """A plan that was made for this node: whether it fits. An estimate refuses only what is far beyond."""
    (place,) = plan.places
    room = node.device.memory_bytes
    says = f"{needed_memory(plan)}; {_gb(room)} GB for each on {node.name}"
    facts = {**facts, "room_bytes": room}
    if place.fits:
        return ok(name, says, **facts)
    nearest = (place.why_not or "").partition("; ")[2] or None
    judge = refused if plan.worker.peak > room else warning
    if judge is warning:
        says += f", of which {USABLE:.0%} are safe to use"
    return judge(name, says, nearest, **facts)


def check_intervals(setting: Setting, run: Training) -> list[Check]:
    """Whether validation and checkpoints come in the steps that the run has."""
    name = f"intervals of {run.name}"
    steps = _steps(setting, run)
    if steps is None:
        return [skipped(name, "the number of steps is known when the dataset is there")]
    checks = [*_validation(name, run, steps), *_checkpoints(name, run, steps)]
    if steps == 1:
        mend = f"raise {_key(run)}.max_steps"
        checks.append(warning(name, "one step: the chart of the loss has one point", mend, steps=steps))
    return checks or [ok(name, f"{steps:,} steps", steps=steps)]


def _steps(setting: Setting, run: Training) -> int | None:
    try:
        return plan_run(setting.recipe, run, setting.workspace, ()).steps
    except (ModelError, ConfigError):
        return run.train.max_steps


def _validation(name: str, run: Training, steps: int) -> list[Check]:
    validation, key = run.train.validation, _key(run)
    if validation is None:
        says = "no validation: the chart of the held-out loss stays empty"
        return [ok(name, f"{steps:,} steps; {says} ({key}.validation.every_steps sets it)", steps=steps)]
    at = [step for step in range(1, steps + 1) if validation.is_due(step)]
    every = validation.every_steps
    if not at:
        when = f"every {every} steps" if every else f"at steps {', '.join(map(str, validation.at_steps))}"
        says = f"{steps} steps, and validation {when}: it comes once, at the end; its chart has one point"
        mend = f"set {key}.validation.every_steps={max(1, steps // 5)}"
        return [warning(name, says, mend, steps=steps)]
    late = [step for step in validation.at_steps if step > steps]
    if late:
        says = f"validation.at_steps {', '.join(map(str, late))} are behind the last of {steps} steps"
        return [warning(name, says, f"leave them out, or raise {key}.max_steps", steps=steps)]
    return []


def _checkpoints(name: str, run: Training, steps: int) -> list[Check]:
    every = run.train.checkpoint.every_steps
    if every < steps or steps <= PROBABLY_LONG:
        return []
    says = f"a checkpoint every {every} of {steps} steps: a run that is killed begins again"
    return [warning(name, says, f"set {_key(run)}.checkpoint.every_steps={max(1, steps // 10)}", steps=steps)]


def _key(run: Training) -> str:
    return "train" if run.stage == "train" else "train of this stage"


def check_splits(setting: Setting) -> list[Check]:
    """Splits that are read, and get no documents."""
    recipe, checks = setting.recipe, []
    for run in recipe.trainings:
        validation = run.train.validation
        if validation and getattr(run.data.split, validation.split) == 0:
            says = f"{run.name} is validated on the split {validation.split}, which gets no documents"
            checks.append(
                refused("splits", says, f"set split.{validation.split}=0.1, or leave validation out")
            )
    evaluate, data = recipe.evaluate, recipe.data
    if evaluate and data and evaluate.needs_dataset and getattr(data.split, evaluate.split) == 0:
        says = f"evaluate reads the split {evaluate.split}, which gets no documents"
        checks.append(refused("splits", says, f"set data.split.{evaluate.split}=0.1, or evaluate.split"))
    return checks or [ok("splits", "what is read of the data has its share")]


def _gb(size: int) -> str:
    return f"{size / GB:,.1f}" if size >= GB / 10 else f"{size / GB:.2g}"
