"""Sweeps: what early stopping saves and what it costs, and whether two trials at once keep two cores busy.

    python -m tests.bench.sweeps_benchmark [--only halving concurrency] [--repeats N] [--output FILE]

SmolLM2 with LoRA over learning rate x rank, on the quickstart's documents in rows of 256 tokens. `halving`
runs the full grid and then ASHA over the same grid, each in a workspace of its own, so that neither finds
what the other has trained. `concurrency` runs some trials one at a time and two at a time, in turns. Takes
about an hour on two cores. Ends with 1 if a bar is missed.
"""

import argparse
import json
import operator
import os
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tests.bench.bars import Bar, Verdict, judge
from tests.bench.corpus import cache_folder
from tests.bench.machine import machine
from tests.bench.printing import bar_table

from heliostat.data.run import prepare_data
from heliostat.models.importing import import_model
from heliostat.ray_session import ray_session
from heliostat.recipe import Recipe
from heliostat.records import Artifact
from heliostat.tuning.config import TuneConfig
from heliostat.tuning.run import SweepInputs, tune_hyperparameters
from heliostat.tuning.settings import Settings
from heliostat.workspace import Workspace

RECIPE = Path(__file__).parents[2] / "jobs" / "recipes" / "sweep.yaml"
SHORTER = ("data.tokenize.max_sequence_length=256", "train.global_batch_size=1", "train.max_steps=32")
RATES = (0.0003, 0.001, 0.003, 0.01)
RANKS = (4, 16, 64)
HELD_OUT_ROWS = 8
FEW_STEPS = 12
PARTS = ("halving", "concurrency")
ALL, ASHA, ONE, TWO = "full grid", "ASHA", "one at a time", "two at a time"

BARS = {
    "best": Bar("ASHA's best held-out loss, x the full grid's", operator.le, 1.01, True),
    "tokens": Bar("ASHA's tokens, x the full grid's", operator.le, 0.40, True),
    "concurrency": Bar("two trials at once, x one at a time", operator.ge, 1.7, True),
}


@dataclass
class Sweeps:
    """The benchmark's inputs, made once, and what its sweeps came to."""

    folder: Path
    recipe: Recipe
    inputs: SweepInputs
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def prepare(cls, overrides: Sequence[str]) -> "Sweeps":
        """Import the model and prepare the data, in a workspace that only reads are made from afterwards."""
        folder = cache_folder() / "sweep-runs"
        for left in folder.glob("sweep-*"):
            shutil.rmtree(left)
        recipe = Recipe.load(RECIPE, (*SHORTER, *overrides))
        workspace = Workspace.resolve(str(folder / "inputs"))
        assert isinstance(recipe.model, str)
        assert recipe.data is not None
        base = import_model(recipe.model, workspace)
        return cls(folder, recipe, SweepInputs(base, prepare_data(recipe.data, base, workspace)))

    def run(self, part: str, how: str, tune: TuneConfig, steps: int) -> None:
        """One sweep from nothing, and a line about it."""
        place = self.folder / f"sweep-{len(self.rows)}"  # MLflow keeps a database open that it has used once
        assert self.recipe.train is not None
        train = self.recipe.train.model_copy(update={"max_steps": steps})
        settings = Settings(train=train, model=self.recipe.model)
        started = time.perf_counter()
        report = tune_hyperparameters(tune, settings, self.inputs, Workspace.resolve(str(place)))
        self.rows.append({"part": part, "how": how, **_row(report, time.perf_counter() - started)})
        print((Path(report.uri) / "report.md").read_text(), flush=True)
        print(f"{part}, {how}: {json.dumps(self.rows[-1])}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="sweeps_benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="changes to jobs/recipes/sweep.yaml")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("sweeps-benchmark.json"))
    options = parser.parse_args(arguments)
    with ray_session(num_cpus=2):
        sweeps = Sweeps.prepare(options.overrides)
        if "halving" in options.only:
            _halving(sweeps)
        if "concurrency" in options.only:
            for _ in range(options.repeats):
                _concurrency(sweeps)
    verdicts = judge(_figures(sweeps.rows), bars=BARS)
    _print(sweeps.rows, verdicts)
    found = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "load": os.getloadavg(),
        "bars": [verdict.as_json() for verdict in verdicts],
        "sweeps": sweeps.rows,
    }
    options.output.write_text(json.dumps(found, indent=1, default=str))
    print(f"written to {options.output}")
    missed = [verdict for verdict in verdicts if not verdict.cleared]
    return 1 if missed or not verdicts else 0


def _halving(sweeps: Sweeps) -> None:
    assert sweeps.recipe.train is not None
    steps = sweeps.recipe.train.max_steps
    assert steps is not None
    scheduler = sweeps.recipe.tune.scheduler.model_dump() if sweeps.recipe.tune else {}
    for how, chosen in ((ALL, {"kind": "none"}), (ASHA, scheduler)):
        sweeps.run("halving", how, _tune(RATES, RANKS, scheduler=chosen), steps)


def _concurrency(sweeps: Sweeps) -> None:
    for how, most in ((ONE, 1), (TWO, 2)):
        tune = _tune(RATES[:2], RANKS[:2], budget={"max_concurrent": most})
        sweeps.run("concurrency", how, tune, FEW_STEPS)


def _tune(rates: Sequence[float], ranks: Sequence[int], **changes: Any) -> TuneConfig:
    space = {"train.learning_rate": list(rates), "train.adapter.r": list(ranks)}
    held_out = {"max_sequences": HELD_OUT_ROWS}
    return TuneConfig.model_validate({"search_space": space, "held_out": held_out, **changes})


def _row(report: Artifact, seconds: float) -> dict[str, Any]:
    facts = report.facts
    return {
        "trials": facts["trials"],
        "best": facts["best"]["value"],
        "point": facts["best"]["point"],
        "tokens": facts["tokens_spent"],
        "seconds": round(seconds, 1),
    }


def _figures(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    def of(how: str, name: str) -> list[float]:
        return [row[name] for row in rows if row["how"] == how]

    figures: dict[str, float] = {}
    if of(ASHA, "best"):
        figures["best"] = of(ASHA, "best")[0] / of(ALL, "best")[0]
        figures["tokens"] = of(ASHA, "tokens")[0] / of(ALL, "tokens")[0]
    if of(TWO, "seconds"):
        figures["concurrency"] = statistics.median(of(ONE, "seconds")) / statistics.median(of(TWO, "seconds"))
    return figures


def _print(rows: Sequence[dict[str, Any]], verdicts: Sequence[Verdict]) -> None:
    table = Table(title="Sweeps")
    for name in ("part", "how", "trials", "best held-out loss", "tokens", "seconds"):
        table.add_column(name, justify="left" if name in ("part", "how", "trials") else "right")
    for row in rows:
        trials = ", ".join(f"{count} {status}" for status, count in row["trials"].items())
        seconds = f"{row['seconds']:.0f}"
        table.add_row(row["part"], row["how"], trials, f"{row['best']:.4f}", f"{row['tokens']:,}", seconds)
    console = Console()
    console.print(table)
    console.print(bar_table(verdicts))


if __name__ == "__main__":
    sys.exit(main())
