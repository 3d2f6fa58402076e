"""A training run before it runs: parameters, memory, layout, steps, time, and where it fits.

Pure arithmetic over a config and a model's shape; nothing is loaded and no cluster is asked.
"""

from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError

from heliostat.training.adapter_config import LoraAdapter
from heliostat.training.config import TrainConfig
from heliostat.training.layout import deepspeed_config
from heliostat.training.objective_config import DistillationObjective, DpoObjective
from heliostat.training.placement import check_placement, coordinates, head_shares
from heliostat.training.plan_activations import Batch
from heliostat.training.plan_devices import USABLE, Node
from heliostat.training.plan_inputs import PlanInputs
from heliostat.training.plan_memory import WorkerMemory, largest, memory_of_workers
from heliostat.training.plan_parameters import split_layers, trainable_parameters
from heliostat.training.plan_time import step_flops, step_seconds
from heliostat.training.schedule import num_steps

# Tried in this order where a run does not fit: each costs more time than the one before.
_SAVINGS: tuple[dict[str, Any], ...] = (
    {"activation_checkpointing": True},
    {"zero": {"stage": 1}},
    {"zero": {"stage": 2}},
    {"zero": {"stage": 3}},
    {"zero": {"stage": 3}, "activation_checkpointing": True},
    {"zero": {"stage": 3, "offload_optimizer": True}, "activation_checkpointing": True},
    {
        "zero": {"stage": 3, "offload_optimizer": True, "offload_parameters": True},
        "activation_checkpointing": True,
    },
)


@dataclass(frozen=True)
class Place:
    """How a run would go on one kind of machine; `why_not` says what is lacking, and the nearest fit."""

    node: str
    num_nodes: int
    step_seconds: float | None
    why_not: str | None = None

    @property
    def fits(self) -> bool:
        """Whether the run has room there."""
        return self.why_not is None


@dataclass(frozen=True)
class Plan:
    """What is known of a run before it starts. Bytes, tokens and seconds are whole run or as named."""

    name: str
    num_workers: int
    replicas: int
    parameters: dict[str, int]
    """`all`, `trainable`, `active` (per token)."""
    parts: dict[str, int]
    workers: tuple[WorkerMemory, ...]
    """One for each pipeline stage."""
    stages: tuple[tuple[int, ...], ...]
    """The layers of each pipeline stage."""
    layout: tuple[dict[str, int], ...]
    """A row for each rank: rank, replica, tensor, pipeline, sequence, expert."""
    deepspeed: dict[str, Any]
    sequences_per_step: int
    tokens_per_step: int
    step_flops: float
    steps: int | None
    tokens: int | None
    dataset: str | None
    places: tuple[Place, ...]
    notes: tuple[str, ...]

    @property
    def worker(self) -> WorkerMemory:
        """The worker that needs most."""
        return largest(self.workers)

    def seconds(self, place: Place) -> float | None:
        """The whole run's, if its steps are known."""
        if self.steps is None or place.step_seconds is None:
            return None
        return self.steps * place.step_seconds

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values."""
        values = asdict(self)
        for written, worker in zip(values["workers"], self.workers, strict=True):
            written |= {"peak": worker.peak, "largest_transient": worker.largest_transient}
        for written, place in zip(values["places"], self.places, strict=True):
            written |= {"fits": place.fits, "seconds": self.seconds(place)}
        return values


def plan_training(config: TrainConfig, inputs: PlanInputs, nodes: tuple[Node, ...]) -> Plan:
    """Everything that can be told of a run beforehand.

    Raises:
        ConfigError: the model cannot be laid out so.
    """
    shape, dataset = inputs.shape, inputs.dataset
    check_placement(config, shape, inputs.max_sequence_length)
    in_step = _batch(inputs, config.sequences_per_step)
    flops = step_flops(config, shape, in_step, inputs.added_tokens)
    steps = num_steps(config, dataset.sequences) if dataset else config.max_steps
    tokens_per_step = (
        round(config.sequences_per_step * dataset.tokens / dataset.sequences) if dataset else in_step.tokens
    )
    trainable = trainable_parameters(config.adapter, shape, inputs.added_tokens)
    return Plan(
        name=config.name,
        num_workers=config.max_workers,
        replicas=config.replicas(config.max_workers),
        parameters={"all": shape.num_parameters, "trainable": trainable, "active": shape.active_parameters},
        parts=shape.parts(),
        workers=_workers(config, inputs),
        stages=split_layers(shape, config.layout.pipeline_parallel),
        layout=tuple(
            {"rank": rank} | asdict(coordinates(rank, config.layout, config.max_workers))
            for rank in range(config.max_workers)
        ),
        deepspeed=deepspeed_config(config, model_type=shape.model_type),
        sequences_per_step=config.sequences_per_step,
        tokens_per_step=tokens_per_step,
        step_flops=flops,
        steps=steps,
        tokens=steps * tokens_per_step if steps is not None and dataset else None,
        dataset=dataset.where if dataset else None,
        places=tuple(_place(config, inputs, node, flops) for node in nodes),
        notes=tuple(_notes(config, inputs)),
    )


def _batch(inputs: PlanInputs, rows: int) -> Batch:
    """So many packed sequences; without a dataset every token is taken to be learned, which is the most."""
    length, dataset = inputs.max_sequence_length, inputs.dataset
    share = dataset.labels / (dataset.sequences * length) if dataset else 1.0
    return Batch(rows, length, round(rows * length * share), inputs.packed)


def _workers(config: TrainConfig, inputs: PlanInputs) -> tuple[WorkerMemory, ...]:
    batch = _batch(inputs, config.micro_batch_size)
    return memory_of_workers(config, inputs.shape, batch, inputs.added_tokens)


def _place(config: TrainConfig, inputs: PlanInputs, node: Node, flops: float) -> Place:
    """A recipe for CPUs is looked at on GPUs as if it said use_gpu: true."""
    if config.use_gpu and not node.has_gpus:
        return Place(node.name, 1, None, "has no GPU for use_gpu: true; leave use_gpu out")
    config = config.model_copy(update={"use_gpu": node.has_gpus})
    seconds = step_seconds(config, flops, node.device)
    num_nodes = -(-config.max_workers // node.num_devices) if node.has_gpus else 1
    if seconds is None:
        return Place(node.name, num_nodes, None, f"cannot compute in {config.layout.precision}; use bf16")
    if config.max_workers > num_nodes * node.num_devices:
        return Place(
            node.name, 1, seconds, f"has room for {node.num_devices} worker(s); set num_workers to that"
        )
    lacking = _lacking(config, inputs, node)
    if lacking:
        lacking += _nearest(config, inputs, node)
    return Place(node.name, num_nodes, seconds, lacking)


def _lacking(config: TrainConfig, inputs: PlanInputs, node: Node) -> str | None:
    worker = largest(_workers(config, inputs))
    on_node = min(config.max_workers, node.num_devices)
    if worker.peak > USABLE * node.device.memory_bytes:
        return f"a worker needs {_gb(worker.peak)} of {_gb(int(USABLE * node.device.memory_bytes))} GB"
    if on_node * worker.host > USABLE * node.host_bytes:
        return f"the host needs {_gb(on_node * worker.host)} of {_gb(int(USABLE * node.host_bytes))} GB"
    return None


def _nearest(config: TrainConfig, inputs: PlanInputs, node: Node) -> str:
    """The first of the savings that makes it fit, as a person would write it."""
    for saving in _SAVINGS:
        values = config.model_dump(mode="json")
        values["layout"] |= saving
        try:
            changed = TrainConfig.model_validate(values)
        except ValidationError:  # the saving does not go with the rest of the layout
            continue
        if _lacking(changed, inputs, node) is None:
            return f"; the nearest that fits is {_said(saving)}"
    return "; more workers, smaller micro batches or shorter sequences need less"


def _said(saving: dict[str, Any]) -> str:
    zero = [f"layout.zero.{key}={str(value).lower()}" for key, value in saving.get("zero", {}).items()]
    rest = [f"layout.{key}={str(value).lower()}" for key, value in saving.items() if key != "zero"]
    return " ".join([*zero, *rest])


def _notes(config: TrainConfig, inputs: PlanInputs) -> list[str]:
    """What a person should know beside the numbers."""
    shape, notes = inputs.shape, []
    if not shape.is_exact:
        notes.append(f"{shape.model_type} is counted as a Llama of its size; the numbers are estimates")
    held = head_shares(shape, config.layout.tensor_parallel)
    if len(set(held)) > 1:
        notes.append(
            f"{shape.num_key_value_heads} key-value heads over {len(held)} tensor ranks are shares of "
            f"{', '.join(map(str, held))}; the largest sets the pace"
        )
    if inputs.dataset is None:
        notes.append(
            "steps and tokens are unknown until the data stage has run; every token counts as learned"
        )
    if isinstance(config.objective, DpoObjective) and _has_reference(config, config.objective):
        notes.append("the reference model's own weights and time are not counted")
    if isinstance(config.objective, DistillationObjective):
        notes.append("the teacher's weights and time are not counted")
    return notes


def _has_reference(config: TrainConfig, objective: DpoObjective) -> bool:
    """Whether a second model is compared with: with LoRA it is the same one without its adapter."""
    return not objective.reference_free and not isinstance(config.adapter, LoraAdapter)


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f}"
