"""A mixture of experts from nothing against trigrams over the same tokens, and how even its experts' load is.

    python -m tests.bench.pretraining_benchmark [key=value ...] [--output FILE]

Runs the first stage of jobs/recipes/pretrain_moe.yaml through the whole pipeline: a tokenizer learned from
the documents, 11 million parameters, two CPU workers. Overrides change the recipe, such as
`pretrain.0.max_tokens=100000`. Ends with 1 if a bar is missed.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.trigram_baseline import trigram_loss

from heliostat.models.perplexity import Limits, measure_perplexity
from heliostat.pipeline import run_pipeline
from heliostat.ray_session import ray_session
from heliostat.recipe import Recipe
from heliostat.records import Artifact
from heliostat.storage import artifact_folder
from heliostat.tokenized import TokenizedDataset
from heliostat.tracking import read_metrics
from heliostat.workspace import Workspace

RECIPE = Path(__file__).parents[2] / "jobs" / "recipes" / "pretrain_moe.yaml"
LEAST_ENTROPY = 0.8


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, score both on held-out documents, print and write what came out; returns the exit code."""
    parser = argparse.ArgumentParser(prog="pretraining_benchmark", description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--output", type=Path, default=Path("pretraining-benchmark.json"))
    options = parser.parse_args(arguments)
    recipe = Recipe.load(RECIPE, tuple(options.overrides))
    only_language = recipe.model_copy(
        update={"pretrain": recipe.pretrain[:1], "data": None, "train": None, "evaluate": None}
    )
    with tempfile.TemporaryDirectory() as root:
        workspace = Workspace.resolve(root)
        started = time.perf_counter()
        with ray_session(num_cpus=2):
            run_pipeline(only_language, workspace)
        found = _figures(Path(root)) | {"seconds": round(time.perf_counter() - started)}
    for name, value in found.items():
        print(f"{name:>28}  {value}")
    options.output.write_text(json.dumps(found, indent=1))
    print(f"written to {options.output}")
    missed = []
    if found["loss"] >= found["trigram_loss"]:
        missed.append("held-out loss below trigrams'")
    if min(found["mean_expert_entropy"], found["last_expert_entropy"]) <= LEAST_ENTROPY:
        missed.append(f"expert entropy above {LEAST_ENTROPY}")
    if missed:
        print(f"missed: {', '.join(missed)}")
    return 1 if missed else 0


def _figures(root: Path) -> dict[str, float]:
    (model,) = _artifacts(root, "models/language-*")
    (dataset,) = _artifacts(root, "data/tokenized/*")
    train, held_out = (TokenizedDataset(artifact_folder(dataset), split) for split in ("train", "test"))
    score = measure_perplexity(artifact_folder(model), held_out, Limits(micro_batch_size=8, num_threads=2))
    baseline, num_tokens = trigram_loss(train, held_out)
    assert num_tokens == score.num_labels, "both are scored on the same tokens"
    (run,) = root.glob("runs/train-*")
    history = read_metrics(run)
    entropies = [entry["expert_entropy"] for entry in history]
    return {
        "parameters": model.facts["all_parameters"],
        "steps": model.facts["steps"],
        "train_tokens": train.num_tokens,
        "held_out_tokens": num_tokens,
        "loss": round(score.loss, 4),
        "trigram_loss": round(baseline, 4),
        "mean_expert_entropy": round(sum(entropies) / len(entropies), 4),
        "last_expert_entropy": round(entropies[-1], 4),
        "tokens_per_second": round(model.facts["tokens_per_second"]),
    }


def _artifacts(root: Path, pattern: str) -> list[Artifact]:
    return [
        Artifact.model_validate_json(file.read_text())
        for file in sorted(root.glob(f"{pattern}/artifact.json"))
    ]


if __name__ == "__main__":
    sys.exit(main())
