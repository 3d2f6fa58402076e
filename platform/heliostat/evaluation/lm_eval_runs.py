"""Tasks of lm-evaluation-harness through lm_eval itself, in an environment of its own."""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from heliostat.errors import ConfigError, EvaluationError
from heliostat.evaluation.examples import Example
from heliostat.evaluation.suite_config import LmEvalSuite


def check_environment(suite: LmEvalSuite) -> str:
    """See that the interpreter and the folder are there; what the tasks' files hold, for a fingerprint.

    Raises:
        ConfigError: one is missing.
    """
    if not Path(suite.python).is_file():
        raise ConfigError(
            f"suite '{suite.name}': no interpreter at {suite.python}; make one with `python3 -m venv "
            "FOLDER && FOLDER/bin/pip install 'lm_eval[hf]==0.4.13'` and name FOLDER/bin/python"
        )
    if suite.include_path is None:
        return ""
    folder = Path(suite.include_path)
    if not folder.is_dir():
        raise ConfigError(
            f"suite '{suite.name}': no folder {folder}; 'include_path:' has the tasks' YAML files"
        )
    texts = [file.read_bytes().hex() for file in sorted(folder.rglob("*")) if file.is_file()]
    return "\n".join(texts)


def run_lm_eval(suite: LmEvalSuite, folder: Path, num_threads: int) -> dict[str, list[Example]]:
    """Evaluate a transformers folder; the examples of each task.

    Raises:
        EvaluationError: lm_eval failed; its last line says why.
    """
    with tempfile.TemporaryDirectory(prefix="heliostat-lm-eval-") as output:
        run_into(Path(output), suite, folder, num_threads)
        return read_samples(Path(output))


def run_into(output: Path, suite: LmEvalSuite, folder: Path, num_threads: int) -> None:
    """Let lm_eval write its results and samples into a folder; errors as `run_lm_eval`."""
    command = [suite.python, "-m", "lm_eval", "--model", "hf", "--device", "cpu", "--batch_size", "1"]
    command += ["--model_args", f"pretrained={folder},dtype=float32", "--tasks", ",".join(suite.tasks)]
    command += ["--output_path", str(output), "--log_samples"]
    if suite.include_path:
        command += ["--include_path", suite.include_path]
    if suite.max_examples:
        command += ["--limit", str(suite.max_examples)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=_environment(num_threads, str(output)), check=False
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise EvaluationError(f"suite '{suite.name}': lm_eval ended with {done.returncode}: {said[:300]}")


def read_samples(output: Path) -> dict[str, list[Example]]:
    """The examples of each task in lm_eval's output folder."""
    return {_task_of(file): _examples(file) for file in sorted(output.rglob("samples_*.jsonl"))}


def _environment(num_threads: int, cache: str) -> dict[str, str]:
    """Nothing of ours: another Python, its own torch, no hub."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "RAY_", "VIRTUAL_"))
    }
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_DATASETS_CACHE": f"{cache}/datasets"}
    return kept | offline | {"OMP_NUM_THREADS": str(num_threads), "TOKENIZERS_PARALLELISM": "false"}


def _task_of(file: Path) -> str:
    """`samples_TASK_2026-01-01T00-00-00.000000.jsonl`"""
    return file.stem.removeprefix("samples_").rpartition("_")[0].lower()


def _examples(file: Path) -> list[Example]:
    with file.open(encoding="utf-8") as stream:
        samples = [json.loads(line) for line in stream]
    several = len({sample.get("filter") for sample in samples}) > 1
    found: dict[str, Example] = {}
    for sample in samples:
        name = str(sample["doc_id"])
        suffix = f"_{sample['filter']}" if several else ""
        scores = {f"{metric}{suffix}": _score(metric, sample[metric]) for metric in sample.get("metrics", [])}
        before = found.get(name)
        found[name] = Example(
            id=name,
            scores=(before.scores if before else {}) | scores,
            prompt=_prompt(sample),
            target=str(sample.get("target")),
            output=sample.get("filtered_resps"),
        )
    return list(found.values())


def _score(metric: str, value: Any) -> float | list[float]:
    """lm_eval's (log-likelihood, words) is our [loss, words]."""
    if isinstance(value, list) and len(value) == 2 and metric.endswith(("perplexity", "bits_per_byte")):
        return [-float(value[0]), float(value[1])]
    return float(value)


def _prompt(sample: dict[str, Any]) -> Any:
    arguments = sample.get("arguments")
    if isinstance(arguments, dict):
        first: Any = next(iter(arguments.values()), {})
        return first.get("arg_0") if isinstance(first, dict) else None
    return arguments[0][0] if arguments else None
