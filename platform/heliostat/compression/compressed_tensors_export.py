"""A folder in the compressed-tensors format for vLLM, by llm-compressor in an environment of its own.

llm-compressor wants other versions of torch and transformers than Heliostat; it is never imported here.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import heliostat
from heliostat.compression.config import CompressedTensorsConfig
from heliostat.errors import ConfigError, ModelError
from heliostat.models.adapters import copy_tokenizer
from heliostat.models.perplexity import Limits, Score
from heliostat.tokenized import TokenizedDataset

STEPS = {"load": 0.1, "compress": 0.8, "save": 0.1}
RUNNER = Path(__file__).with_name("compressed_tensors_runner.py")
MARK = "heliostat: "
MEND = (
    "make one with 'python -m venv DIR && DIR/bin/pip install llmcompressor' and give python: DIR/bin/python"
)


def check_environment(config: CompressedTensorsConfig) -> None:
    """Refuse an interpreter that is not there, or has no llm-compressor.

    Raises:
        ConfigError: what is missing, and how to make it.
    """
    python = Path(config.python).expanduser()
    if not python.is_file():
        raise ConfigError(f"compress.python: {python}: no such interpreter; {MEND}")
    code = "from importlib.metadata import version; version('llmcompressor')"
    if subprocess.run([python, "-c", code], capture_output=True).returncode:
        raise ConfigError(f"compress.python: {python}: has no llmcompressor; {MEND}")


def export_and_score(
    source: Path,
    target: Path,
    config: CompressedTensorsConfig,
    documents: Sequence[np.ndarray],
    dataset: TokenizedDataset,
    limits: Limits,
) -> Iterator[str | Score]:
    """Write the folder `target`; yields the name of each of STEPS when it begins, then scores.

    Raises:
        ModelError: llm-compressor refuses the model, with its last line.
    """
    with tempfile.TemporaryDirectory(prefix="heliostat-job-") as name:
        job = Path(name) / "job.json"
        job.write_text(
            json.dumps(
                {
                    "package": str(Path(heliostat.__file__).parents[1]),
                    "source": str(source),
                    "target": str(target),
                    "scheme": config.scheme,
                    "group_size": config.group_size,
                    "documents": [document.tolist() for document in documents],
                    "dataset": str(dataset.folder),
                    "split": dataset.split,
                    "limits": vars(limits),
                }
            )
        )
        yield from _said([str(Path(config.python).expanduser()), str(RUNNER), str(job)], Path(name) / "log")
    copy_tokenizer(source, target)


def _said(command: list[str], log: Path) -> Iterator[str | Score]:
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith(MARK):
                    said = json.loads(line.removeprefix(MARK))
                    yield said["step"] if "step" in said else Score(**said["score"])
            code = process.wait()
        finally:
            process.kill()
    if code:
        lines = log.read_text(errors="replace").strip().splitlines() or [f"exit code {code}"]
        raise ModelError(f"llm-compressor cannot compress the model: {lines[-1][:300]}")
