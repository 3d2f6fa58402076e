"""A plan in words and small tables, for a terminal or a pipe."""

import json
from datetime import timedelta
from typing import TYPE_CHECKING

from heliostat.training.plan import Place, Plan

if TYPE_CHECKING:
    from rich.table import Table

MAX_RANKS = 16
MAX_LAYERS_NAMED = 3


def print_plan(plan: Plan) -> None:
    """Print a plan to standard output."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(_facts(plan))
    console.print(_memory(plan))
    console.print(_layout(plan))
    console.print(_places(plan))
    console.print("[bold]DeepSpeed[/]")
    print(json.dumps(plan.deepspeed, indent=2))
    for note in plan.notes:
        console.print(f"note: {note}", markup=False)


def _facts(plan: Plan) -> "Table":
    table = _table(f"Plan of {plan.name}", headed=False)
    parameters = plan.parameters
    share = parameters["trainable"] / parameters["all"]
    table.add_row("parameters", f"{parameters['all']:,}: " + _parts(plan.parts))
    table.add_row("trainable", f"{parameters['trainable']:,} ({share:.2%})")
    if parameters["active"] < parameters["all"]:
        table.add_row("active per token", f"{parameters['active']:,}")
    table.add_row(
        "step",
        f"{plan.sequences_per_step:,} packed sequences, {plan.tokens_per_step:,} tokens, "
        f"{_figures(plan.step_flops / 1e12)} TFLOP",
    )
    table.add_row("steps", _count(plan.steps))
    table.add_row("tokens", _count(plan.tokens))
    if plan.dataset:
        table.add_row("dataset", plan.dataset)
    return table


def _memory(plan: Plan) -> "Table":
    table = _table("Memory of a worker, MB", "")
    stages = plan.workers
    for worker in stages:
        table.add_column("each" if len(stages) == 1 else f"stage {worker.stage}", justify="right")
    for name in ("weights", "gradients", "optimizer", "activations", "buffers"):
        table.add_row(name, *(_mb(getattr(worker, name)) for worker in stages))
    for name in plan.worker.transients:
        table.add_row(f"  then {name}", *(_mb(worker.transients[name]) for worker in stages), style="dim")
    table.add_row("peak", *(_mb(worker.peak) for worker in stages), style="bold")
    if any(worker.host for worker in stages):
        table.add_row("on the host", *(_mb(worker.host) for worker in stages))
    return table


def _layout(plan: Plan) -> "Table":
    names = [name for name in ("tensor", "pipeline", "sequence", "expert") if _differs(plan, name)]
    table = _table(f"{plan.num_workers} worker(s), {plan.replicas} replica(s)", "rank", "replica", *names)
    if "pipeline" in names:
        table.add_column("layers")
    for row in plan.layout[:MAX_RANKS]:
        layers = [_span(plan.stages[row["pipeline"]])] if "pipeline" in names else []
        table.add_row(str(row["rank"]), str(row["replica"]), *(str(row[name]) for name in names), *layers)
    if plan.num_workers > MAX_RANKS:
        table.add_row("...", "", *("" for _ in names))
    return table


def _places(plan: Plan) -> "Table":
    table = _table("Where it fits", "machine", "needed", "step", "run", "")
    for place in plan.places:
        machines = str(place.num_nodes) if place.fits else "-"
        table.add_row(
            place.node,
            machines,
            _step(place),
            _run(plan, place),
            "fits" if place.fits else f"no: {place.why_not}",
        )
    return table


def _table(title: str, *columns: str, headed: bool = True) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=headed, box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column)
    if not headed:
        table.add_column(style="dim", no_wrap=True)
        table.add_column()
    return table


def _differs(plan: Plan, name: str) -> bool:
    return any(row[name] for row in plan.layout)


def _parts(parts: dict[str, int]) -> str:
    return ", ".join(f"{name} {size / 1e6:,.1f} M" for name, size in parts.items())


def _span(layers: tuple[int, ...]) -> str:
    return f"{layers[0]}-{layers[-1]}" if len(layers) > 1 else str(layers[0])


def _count(number: int | None) -> str:
    return "unknown until the data stage has run" if number is None else f"{number:,}"


def _figures(number: float) -> str:
    """Three figures that count."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f}"


def _step(place: Place) -> str:
    return "" if place.step_seconds is None else f"{_figures(place.step_seconds)} s"


def _run(plan: Plan, place: Place) -> str:
    seconds = plan.seconds(place)
    return "" if seconds is None else str(timedelta(seconds=max(1, round(seconds))))
