"""What to change when a worker ran out of memory, in the order of what it costs. Pure: knows no torch or Ray.

Nothing here changes what is learned: the global batch stays, only how it is cut and where state lies.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from heliostat.training.config import FreezeAdapter, FullAdapter, TrainConfig

NEARLY_FULL = 0.9
"""The share of memory in use above which a killed worker was probably killed for it."""

OUT_OF_MEMORY = re.compile(
    r"out of memory\. Tried to allocate"  # torch, for CUDA and other devices
    r"|(CUDA|HIP) (error|failure).{0,3}out of memory"
    r"|CUBLAS_STATUS_ALLOC_FAILED"
    r"|can't allocate memory: you tried to allocate"  # torch on a CPU
    r"|Cannot allocate memory"  # the system: ENOMEM
    r"|Unable to allocate .{1,40} for an array"  # numpy
    r"|std::bad_alloc"
    r"|\b(OutOfMemoryError|MemoryError)\b"  # torch's, Ray's, Python's own
    r"|killed due to (the node running low on memory|memory pressure)",  # Ray's memory monitor
    re.IGNORECASE,
)
KILLED = re.compile(r"SIGKILL|\bsignal 9\b|exit code -?9\b|exit code 137\b|SYSTEM_ERROR|died unexpectedly")
CAUSE = re.compile(
    r"(CUDA out of memory[^.]*\.[^.]*\.\d* ?\w+|you tried to allocate \d+ bytes|running low on memory)"
)


@dataclass(frozen=True)
class Advice:
    """One change of a recipe's `train` section."""

    change: dict[str, Any]
    """Dotted overrides: `{"micro_batch_size": 2, "gradient_accumulation_steps": 4}`."""
    why: str
    keeps_checkpoint: bool = True
    """Whether DeepSpeed can load the run's state after the change; a ZeRO stage lays it out anew."""

    def __str__(self) -> str:
        """`micro_batch_size=2 gradient_accumulation_steps=4 (...)`, as one types it after a recipe."""
        values = " ".join(f"{key}={_text(value)}" for key, value in self.change.items())
        return f"{values} ({self.why})"


def is_out_of_memory(error: BaseException | str, memory_share: float | None = None) -> bool:
    """Whether a worker's error says that memory ran out.

    Args:
        error: the exception, or the text that is left of it.
        memory_share: the last known share of the worker's memory in use, 0 to 1. A worker that is killed
            by the system leaves no word about memory; with this above `NEARLY_FULL` it counts. Ray's list of
            possible causes, which always names memory, does not.
    """
    if isinstance(error, MemoryError):
        return True
    text = f"{type(error).__name__}: {error}" if isinstance(error, BaseException) else error
    if OUT_OF_MEMORY.search(text):
        return True
    return memory_share is not None and memory_share >= NEARLY_FULL and bool(KILLED.search(text))


def advise(config: TrainConfig) -> list[Advice]:
    """What may help this run, the cheapest first; each change alone gives a config that is accepted."""
    return [advice for advice in _candidates(config) if _applied(config, advice) is not None]


def adapt(config: TrainConfig) -> TrainConfig | None:
    """The config after the first change that keeps the run's checkpoint, or None when there is none left.

    The global batch is the same, so the run goes on from its checkpoint as if nothing had happened.
    """
    usable = (_applied(config, advice) for advice in advise(config) if advice.keeps_checkpoint)
    return next(usable, None)


def explain(config: TrainConfig, rank: int | None, error: BaseException | str, adapted: bool) -> str:
    """One line: which worker, what happened, and what is changed, or is to be changed, for it.

    Args:
        config: what the worker ran under.
        rank: the worker's rank, None where it is not known.
        error: what it ended with.
        adapted: whether the run goes on with `adapt(config)`.
    """
    where = f"worker {rank}" if rank is not None else "a worker"
    found = CAUSE.search(str(error))
    cause = f" ({' '.join(found.group().split())})" if found else ""
    advices = advise(config)
    if adapted:
        first = next(advice for advice in advices if advice.keeps_checkpoint)
        return f"{where} ran out of memory{cause}; going on from the last checkpoint with {first}"
    if not advices:
        return (
            f"{where} ran out of memory{cause}; batch and layout are as small as they get: take more workers "
            "or larger ones, shorter sequences, or a smaller model"
        )
    return f"{where} ran out of memory{cause}; run again with {advices[0]}"


def _candidates(config: TrainConfig) -> Iterator[Advice]:
    layout = config.layout
    if config.micro_batch_size > 1:
        yield _smaller_micro_batch(config)
    if not layout.activation_checkpointing:
        yield Advice(
            {"layout.activation_checkpointing": True},
            "activations are computed again in the backward pass, a third more work, instead of kept",
        )
    # An adapter's gradients and optimizer state are small beside the weights: splitting them frees nothing.
    much_is_trained = isinstance(config.adapter, (FullAdapter, FreezeAdapter))
    if config.use_gpu and much_is_trained and not layout.zero.offload_optimizer:
        stage: dict[str, Any] = {} if layout.zero.stage else {"layout.zero.stage": 1}
        yield Advice(
            stage | {"layout.zero.offload_optimizer": True},
            "the optimizer's state, two to three times the weights, goes to the host's memory",
            keeps_checkpoint=False,
        )
    if config.replicas(config.min_workers) > 1:
        for higher in range(max(layout.zero.stage + 1, 1 if much_is_trained else 3), 4):
            what = {1: "the optimizer's state", 2: "gradients too", 3: "weights too"}[higher]
            yield Advice(
                {"layout.zero.stage": higher}, f"splits {what} over the workers", keeps_checkpoint=False
            )
    if config.use_gpu and layout.zero.stage == 3 and not layout.zero.offload_parameters:
        yield Advice(
            {"layout.zero.offload_parameters": True},
            "weights stay in the host's memory until they are used; slow",
            keeps_checkpoint=False,
        )


def _smaller_micro_batch(config: TrainConfig) -> Advice:
    """Half the micro batch, or the next smaller one that still divides a replica's share of the batch."""
    replicas = config.replicas(config.max_workers)
    share = config.sequences_per_step // replicas
    size = next(size for size in range(config.micro_batch_size // 2, 0, -1) if share % size == 0)
    change = {"micro_batch_size": size}
    if config.global_batch_size is None or config.gradient_accumulation_steps is not None:
        change["gradient_accumulation_steps"] = share // size
    return Advice(
        change,
        f"activations of {size} instead of {config.micro_batch_size} sequences at once, the same global "
        f"batch of {config.sequences_per_step}",
    )


def _applied(config: TrainConfig, advice: Advice) -> TrainConfig | None:
    """The changed config, or None where the layout does not allow the change."""
    values = config.model_dump()
    for key, value in advice.change.items():
        *sections, name = key.split(".")
        section = values
        for each in sections:
            section = section[each]
        section[name] = value
    try:
        return TrainConfig.model_validate(values)
    except ValidationError:
        return None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
