"""What each kind of compression costs and saves, on the quickstart's model and data, against its bars.

    python -m tests.bench.compression_benchmark [--only int8 int4 gguf pruned] [key=value ...]

The model is the quickstart's tuned one, made first. Overrides change the recipe below, such as
`compress.1.ratio=1`. Prints a table, writes it as JSON, and ends with 1 if a bar is missed. Half an hour on
two cores, most of it the healing.
"""

import argparse
import json
import operator
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from tests.bench.bars import Bar, judge
from tests.bench.corpus import cache_folder
from tests.bench.llama_cpp import LLAMA_CPP, answers_of_llama_cpp, answers_of_transformers, num_equal
from tests.bench.machine import machine
from tests.bench.peers import python_of
from tests.bench.printing import bar_table

from heliostat.pipeline import run_pipeline
from heliostat.ray_session import ray_session
from heliostat.recipe import Recipe
from heliostat.records import Artifact
from heliostat.workspace import Workspace

QUICKSTART = Path(__file__).parents[2] / "jobs" / "recipes" / "quickstart.yaml"
ANY_LOSS = 10.0  # the bars judge, so nothing is refused before
STEPS: dict[str, dict[str, Any]] = {
    "int8": {"scheme": "int8"},
    "int4": {"scheme": "int4"},
    "gguf": {"kind": "gguf", "scheme": "f16"},
    "gguf-q8_0": {"kind": "gguf", "scheme": "q8_0"},
    "pruned": {
        "kind": "prune",
        "keep": 0.8,
        "heal": {
            "num_workers": 2,
            "global_batch_size": 2,
            "num_epochs": 1,
            "learning_rate": 0.0003,
            "checkpoint": {"every_steps": 20},
        },
    },
}
BARS = {
    "int8 loss": Bar("INT8: perplexity, relative rise", operator.le, 0.02),
    "int4 loss": Bar("INT4: perplexity, relative rise", operator.le, 0.08),
    "int4 size": Bar("INT4: weights, share of fp32's bytes", operator.le, 0.2),
    "pruned size": Bar("pruned: share of the parameters", operator.le, 0.8),
    "pruned loss": Bar("pruned to 80 % and healed: perplexity, relative rise", operator.le, 0.1),
    "gguf answers": Bar("GGUF at F16: greedy answers of 10 that llama.cpp gives as fp32", operator.ge, 8),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Compress, ask, print and write what came out; returns the exit code."""
    parser = argparse.ArgumentParser(prog="compression_benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--only", nargs="+", choices=list(STEPS), default=list(STEPS), help="these kinds")
    parser.add_argument("--workspace", help="one to go on with; else a fresh one, thrown away")
    parser.add_argument("--output", type=Path, default=cache_folder() / "compression-benchmark.json")
    asked = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 120)
    with tempfile.TemporaryDirectory(prefix="heliostat-compression-") as scratch:
        root = Path(asked.workspace or scratch)
        recipe = _recipe(Path(scratch), asked.only, asked.overrides)
        with ray_session(num_cpus=2):
            run_pipeline(recipe, Workspace.resolve(str(root)))
        found = _compressed(root)
        figures = _figures(found)
        for name in {"gguf", "gguf-q8_0"} & set(asked.only):
            figures |= _asked(root, name, found[_scheme(name)])
    console.print(_table(found, figures))
    verdicts = judge(figures, bars=BARS)
    console.print(bar_table(verdicts))
    report = {
        "machine": machine(),
        "recipe": recipe.model_dump(mode="json"),
        "facts": {name: artifact.facts for name, artifact in found.items()},
        "figures": figures,
        "bars": [verdict.as_json() for verdict in verdicts],
    }
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(json.dumps(report, indent=1, default=str))
    print(f"written to {asked.output}")
    return 0 if all(verdict.cleared for verdict in verdicts) else 1


def _recipe(folder: Path, kinds: Sequence[str], overrides: Sequence[str]) -> Recipe:
    steps = [
        {"name": f"bench-{kind}", "max_tokens": 8_000, "max_loss": ANY_LOSS, **STEPS[kind]} for kind in kinds
    ]
    file = folder / "recipe.yaml"
    without = {"evaluate": None, "serve": None, "question": None}
    file.write_text(yaml.safe_dump({"base": str(QUICKSTART), "compress": steps, **without}))
    return Recipe.load(file, tuple(overrides))


def _compressed(root: Path) -> dict[str, Artifact]:
    """What the steps made, by scheme; of pruning only what was healed."""
    artifacts = [
        Artifact.model_validate_json(file.read_text())
        for file in sorted(root.glob("models/bench-*/artifact.json"))
    ]
    ours = [each for each in artifacts if each.facts.get("kind") not in (None, "prune")]
    return {each.facts["scheme"]: each for each in sorted(ours, key=lambda each: each.created_at)}


def _scheme(kind: str) -> str:
    return {"gguf": "gguf-f16", "pruned": "pruned-80"}.get(kind, kind)


def _figures(found: dict[str, Artifact]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for kind in ("int8", "int4", "pruned"):
        artifact = found.get(_scheme(kind))
        if artifact is not None:
            facts = artifact.facts
            figures[f"{kind} loss"] = facts["perplexity_after"] / facts["perplexity_before"] - 1
            figures[f"{kind} size"] = facts["bytes_after"] / facts["bytes_before"]
    return figures


def _asked(root: Path, kind: str, export: Artifact) -> dict[str, float]:
    """What llama.cpp makes of the file: equal answers, and tokens a second."""
    (source,) = (
        file.parent
        for file in root.glob("models/*/artifact.json")
        if Artifact.model_validate_json(file.read_text()).id == export.parents[0]
    )
    (file,) = Path(export.uri).glob("*.gguf")
    theirs = answers_of_llama_cpp(python_of(LLAMA_CPP), file, source)
    equal = num_equal(answers_of_transformers(source), theirs)
    return {f"{kind} answers": equal, f"{kind} tokens/s": theirs.tokens_per_second or 0.0}


def _table(found: dict[str, Artifact], figures: dict[str, float]) -> Table:
    table = Table(title="Compression of the quickstart's tuned model, before -> after")
    table.add_column("scheme")
    for column in ("perplexity", "rise", "weights, MB", "share", "tokens/s, one stream", "s"):
        table.add_column(column, justify="right")
    for scheme, artifact in found.items():
        facts = artifact.facts
        before, after = facts["perplexity_before"], facts["perplexity_after"]
        kind = "gguf" if scheme == "gguf-f16" else scheme
        speed = facts["tokens_per_second_after"] or figures.get(f"{kind} tokens/s", 0)
        table.add_row(
            scheme,
            f"{before:.2f} -> {after:.2f}",
            f"{after / before - 1:+.2%}",
            f"{facts['bytes_before'] / 1e6:.0f} -> {facts['bytes_after'] / 1e6:.0f}",
            f"{facts['bytes_after'] / facts['bytes_before']:.3f}",
            f"{facts['tokens_per_second_before']:.0f} -> {speed:.0f}",
            f"{facts['seconds']:.0f}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
