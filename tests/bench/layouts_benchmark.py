"""Every way to lay a model out over workers, beside one process: the losses must be the same.

    python -m tests.bench.layouts_benchmark [--steps 20] [--only llama deepseek] [--output FILE]

Small models, CPU workers on one local Ray, full training through `train_model`. Prints a table, writes it as
JSON, and ends with 1 if a layout's losses leave those of one worker by more than the bar.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from small_artifacts import publish_dataset, publish_model
from small_models import small_deepseek, small_llama

from heliostat.errors import HeliostatError
from heliostat.ray_session import ray_session
from heliostat.records import Artifact
from heliostat.tracking import read_metrics
from heliostat.training.config import TrainConfig
from heliostat.training.run import train_model
from heliostat.workspace import Workspace

BAR = 1e-4
GLOBAL_BATCH_SIZE = 8


@dataclass(frozen=True)
class Layout:
    """A layout by its usual name."""

    name: str
    num_workers: int
    layout: dict[str, Any]


def _zero(stage: int, **more: bool) -> dict[str, Any]:
    return {"zero": {"stage": stage, **more}}


ONE = Layout("one process", 1, {})
DENSE = (
    Layout("ZeRO 0", 2, _zero(0)),
    Layout("ZeRO 1", 2, _zero(1)),
    Layout("ZeRO 2", 2, _zero(2)),
    Layout("ZeRO 3", 2, _zero(3)),
    Layout("ZeRO 2, optimizer offloaded", 2, _zero(2, offload_optimizer=True)),
    Layout("ZeRO 3, all offloaded", 2, _zero(3, offload_optimizer=True, offload_parameters=True)),
    Layout("SP 2", 2, {"sequence_parallel": 2}),
    Layout("SP 2 x DP 2, ZeRO 3", 4, {"sequence_parallel": 2, **_zero(3)}),
    Layout("TP 2", 2, {"tensor_parallel": 2}),
    Layout("TP 2 x DP 2", 4, {"tensor_parallel": 2, **_zero(1)}),
    Layout("PP 2", 2, {"pipeline_parallel": 2}),
    Layout("PP 2 x DP 2", 4, {"pipeline_parallel": 2, **_zero(1)}),
    Layout("TP 2 x PP 2", 4, {"tensor_parallel": 2, "pipeline_parallel": 2}),
)
EXPERTS = (
    *DENSE[:8],
    Layout("EP 2", 2, {"expert_parallel": 2}),
    Layout("EP 2, ZeRO 1", 2, {"expert_parallel": 2, **_zero(1)}),
)
MODELS: dict[str, tuple[Callable[[Path], Path], tuple[Layout, ...]]] = {
    "llama": (lambda folder: small_llama(folder, num_hidden_layers=4), DENSE),
    "llama-tied": (
        lambda folder: small_llama(folder, num_hidden_layers=4, tie_word_embeddings=True),
        (DENSE[6], *DENSE[8:]),
    ),
    "deepseek": (small_deepseek, EXPERTS),
}


@dataclass
class Measured:
    """One run beside that of one process."""

    model: str
    layout: str
    num_workers: int
    losses: list[float]
    norms: list[float]
    seconds: float
    difference: float = 0.0
    norm_difference: float = 0.0
    failure: str = ""

    @property
    def cleared(self) -> bool:
        """Whether the losses are the same, to the bar."""
        return not self.failure and self.difference <= BAR


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the layouts asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="layouts_benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=sorted(MODELS), default=list(MODELS))
    parser.add_argument("--output", type=Path, default=Path("layouts-benchmark.json"))
    options = parser.parse_args(arguments)
    found: list[Measured] = []
    with tempfile.TemporaryDirectory() as root, ray_session(num_cpus=4):
        for model in options.only:
            for measured in _measure(model, Path(root) / model, options.steps):
                found.append(measured)
                print(_line(measured), flush=True)
                content = {"bar": BAR, "steps": options.steps, "runs": [asdict(each) for each in found]}
                options.output.write_text(json.dumps(content, indent=1))
    _print(found)
    print(f"written to {options.output}")
    missed = [f"{each.model}: {each.layout}" for each in found if not each.cleared]
    if missed:
        print(f"missed: {', '.join(missed)}")
    return 1 if missed else 0


def _measure(model: str, root: Path, steps: int) -> Iterator[Measured]:
    """The losses of each layout, one process first."""
    make, layouts = MODELS[model]
    workspace = Workspace.resolve(str(root / "workspace"))
    folder = make(root / model)
    base = publish_model(workspace, folder)
    dataset = publish_dataset(workspace, folder, count=60, max_sequence_length=128)
    one = _run(model, ONE, (base, dataset), root, steps)
    yield one
    for layout in layouts:
        measured = _run(model, layout, (base, dataset), root, steps)
        if not measured.failure:
            measured.difference = _farthest(measured.losses, one.losses, relative=False)
            measured.norm_difference = _farthest(measured.norms, one.norms, relative=True)
        yield measured


def _run(model: str, layout: Layout, inputs: tuple[Artifact, Artifact], root: Path, steps: int) -> Measured:
    name = layout.name.lower().replace(" ", "-").replace(",", "")
    workspace = Workspace.resolve(str(root / name))
    started = time.perf_counter()
    config = TrainConfig(
        adapter={"kind": "full"},
        layout=layout.layout,
        num_workers=layout.num_workers,
        cpus_per_worker=1,
        global_batch_size=GLOBAL_BATCH_SIZE,
        micro_batch_size=2,
        max_steps=steps,
        learning_rate=0.003,
    )
    try:
        train_model(config, *inputs, workspace)
    except HeliostatError as error:
        return Measured(model, layout.name, layout.num_workers, [], [], 0.0, failure=str(error))
    (run,) = Path(workspace.storage.uri("runs")).glob("train-*")
    history = read_metrics(run)
    return Measured(
        model,
        layout.name,
        layout.num_workers,
        [entry["loss"] for entry in history],
        [entry["gradient_norm"] for entry in history],
        time.perf_counter() - started,
    )


def _farthest(values: list[float], others: list[float], relative: bool) -> float:
    assert len(values) == len(others)
    return max(abs(a - b) / (abs(b) if relative else 1.0) for a, b in zip(values, others, strict=True))


def _line(measured: Measured) -> str:
    if measured.failure:
        return f"{measured.model}, {measured.layout}: failed: {measured.failure}"
    return (
        f"{measured.model}, {measured.layout}: loss {measured.losses[0]:.4f} -> {measured.losses[-1]:.4f}, "
        f"farthest from one process {measured.difference:.1e} ({measured.seconds:.0f} s)"
    )


def _print(found: list[Measured]) -> None:
    table = Table(title=f"Losses beside one process, bar {BAR:g}")
    for column in ("model", "layout", "workers", "first loss", "last loss", "farthest", "norm, relative", ""):
        table.add_column(column, justify="left" if column in ("model", "layout", "") else "right")
    for each in found:
        table.add_row(
            each.model,
            each.layout,
            str(each.num_workers),
            f"{each.losses[0]:.5f}" if each.losses else "",
            f"{each.losses[-1]:.5f}" if each.losses else "",
            f"{each.difference:.1e}" if not each.failure else "",
            f"{each.norm_difference:.1e}" if not each.failure else "",
            "same" if each.cleared else (each.failure or "differs"),
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    sys.exit(main())
