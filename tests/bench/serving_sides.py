"""The servers that are compared: how each is started, asked and measured. One runs at a time."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from tests.bench.llama_cpp import LLAMA_CPP
from tests.bench.peers import python_of
from tests.bench.serving_inputs import Models
from tests.bench.serving_load import Load, Sample
from tests.bench.serving_peers import VLLM
from tests.bench.serving_processes import SideFailed, answer_line, free_port, piped, served
from tests.bench.serving_usage import Meter, ProcessTree

HERE = Path(__file__).parent
MODEL_NAME = "smollm2"
MOST_TOKENS = 1024
"""Prompt and answer together: what each side makes room for, a stream."""


@dataclass(frozen=True)
class Cell:
    """What one measurement asks: so many requests, of which `streams` at a time."""

    streams: int
    prompt_tokens: int
    max_tokens: int
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class CellRun:
    """What it came to; CPU and memory are those of the server and all it started, the load's left out."""

    samples: tuple[Sample, ...]
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Target:
    """Where a server is asked, and what goes with each request."""

    host: str
    port: int
    path: str = "/v1/completions"
    model: str = MODEL_NAME
    headers: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    in_query: bool = False
    """The prompt goes into the query, as in the server of the tutorials."""

    def load(self, cell: Cell) -> Load:
        """The cell's requests; every answer has exactly `max_tokens` tokens."""
        if self.in_query:
            from urllib.parse import quote

            limit = f"max_tokens={cell.max_tokens}"
            paths = [f"{self.path}?{limit}&prompt={quote(prompt)}" for prompt in cell.prompts]
            return Load(self.host, self.port, paths, [{}] * len(paths), cell.streams, self.headers)
        asked = {
            "model": self.model,
            "max_tokens": cell.max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.extra,
        }
        bodies: list[dict[str, Any] | None] = [{**asked, **self.question(prompt)} for prompt in cell.prompts]
        return Load(self.host, self.port, [self.path], bodies, cell.streams, self.headers)

    def question(self, prompt: str) -> dict[str, Any]:
        """A prompt, in the words of a chat or of a completion."""
        if self.path.endswith("/chat/completions"):
            return {"messages": [{"role": "user", "content": prompt}]}
        return {"prompt": prompt}


class Running(Protocol):
    """A side that has started."""

    def run(self, cell: Cell) -> CellRun:
        """Ask it.

        Raises:
            SideFailed: a request failed, or an answer has not as many tokens as were asked for.
        """


class HttpSide:
    """A server, which the load generator asks from a process of its own."""

    def __init__(self, target: Target, process_id: int) -> None:
        self.target = target
        self._tree = ProcessTree(process_id)

    def run(self, cell: Cell) -> CellRun:
        """Ask over HTTP."""
        with Meter(self._tree) as meter:
            samples = send(self.target.load(cell))
        return checked(cell, CellRun(tuple(samples), meter.cpu_seconds, meter.peak_bytes))

    def with_extra(self, extra: Mapping[str, Any]) -> "HttpSide":
        """The same server, asked with other fields besides."""
        other = copy(self)
        other.target = replace(self.target, extra={**self.target.extra, **extra})
        return other


class PipeSide:
    """A process without HTTP, which reads a cell as a line of JSON and writes its samples as one."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._tree = ProcessTree(process.pid)

    def run(self, cell: Cell) -> CellRun:
        """Ask over standard input."""
        assert self._process.stdin
        with Meter(self._tree) as meter:
            print(json.dumps(asdict(cell)), file=self._process.stdin, flush=True)
            answer = answer_line(self._process)
        samples = tuple(Sample(**sample) for sample in answer["samples"])
        return checked(cell, CellRun(samples, meter.cpu_seconds, meter.peak_bytes))


def checked(cell: Cell, run: CellRun) -> CellRun:
    """The run, when every request got all its tokens.

    Raises:
        SideFailed: one did not.
    """
    for sample in run.samples:
        if sample.error:
            raise SideFailed(f"a request failed: {sample.error}")
        if sample.completion_tokens != cell.max_tokens:
            raise SideFailed(
                f"an answer has {sample.completion_tokens} tokens, not {cell.max_tokens}: "
                "end tokens must be ignored and usage be counted"
            )
    if len(run.samples) != len(cell.prompts):
        raise SideFailed(f"{len(run.samples)} answers to {len(cell.prompts)} requests")
    return run


def send(load: Load) -> list[Sample]:
    """Run the load generator in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-P", HERE / "serving_load.py"],
        input=json.dumps(asdict(load)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SideFailed(f"the load generator ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return [Sample(**sample) for sample in json.loads(done.stdout)["samples"]]


@contextmanager
def serve_ours(
    models: Models, streams: int, log: Path, options: Mapping[str, Any] = {}
) -> Iterator[HttpSide]:
    """Our endpoint, with gateway, on a local Ray of its own."""
    del streams
    command = [
        sys.executable,
        "-m",
        "tests.bench.serving_ours",
        models.int8_folder,
        json.dumps(dict(options)),
    ]
    with piped(command, log) as process:
        said = answer_line(process)
        yield HttpSide(Target(**said), process.pid)


@contextmanager
def serve_in_process(models: Models, streams: int, log: Path) -> Iterator[PipeSide]:
    """openvino-genai's pipeline, stepped in a loop."""
    command = [sys.executable, "-m", "tests.bench.serving_in_process", str(models.int8_folder)]
    with piped([*command, str(streams)], log) as process:
        answer_line(process)
        yield PipeSide(process)


@contextmanager
def serve_static_batch(models: Models, streams: int, log: Path) -> Iterator[PipeSide]:
    """transformers, all prompts of a cell in one padded batch."""
    del streams
    command = [sys.executable, "-m", "tests.bench.serving_static_batch", str(models.original_folder)]
    with piped(command, log) as process:
        answer_line(process)
        yield PipeSide(process)


@contextmanager
def serve_naive(models: Models, streams: int, log: Path) -> Iterator[HttpSide]:
    """The server of the tutorials: FastAPI, and transformers' generate inside the handler."""
    del streams
    port = free_port()
    command = [sys.executable, HERE / "serving_naive_server.py", models.original_folder, str(port)]
    with served(command, port, "/health", log) as process:
        yield HttpSide(Target("127.0.0.1", port, "/generate", in_query=True), process.pid)


@contextmanager
def serve_vllm(models: Models, streams: int, log: Path, dtype: str = "float32") -> Iterator[HttpSide]:
    """vLLM's OpenAI server on both cores."""
    python = python_of(VLLM)
    port = free_port()
    settings = {
        "host": "127.0.0.1",
        "port": port,
        "served-model-name": MODEL_NAME,
        "dtype": dtype,
        "max-model-len": MOST_TOKENS,
        "max-num-seqs": max(streams, 16),
    }
    options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", models.original_folder]
    environment = {
        "VLLM_CPU_KVCACHE_SPACE": "2",
        # Left alone it would keep one core of two for itself, and compute on the other.
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, sorted(os.sched_getaffinity(0)))),
        "LD_PRELOAD": str(python.parent.parent / "lib" / "libiomp5.so"),  # as its manual wants
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": "",
    }
    with served([*command, *options], port, "/health", log, environment) as process:
        yield HttpSide(Target("127.0.0.1", port), process.pid)


@contextmanager
def serve_llama_cpp(models: Models, streams: int, log: Path) -> Iterator[HttpSide]:
    """llama.cpp's server inside its Python bindings, with a slot a stream."""
    port = free_port()
    settings = {
        "file": str(models.gguf_file),
        "port": port,
        "slots": streams,
        "context": streams * MOST_TOKENS,
        "threads": len(os.sched_getaffinity(0)),
    }
    command = [python_of(LLAMA_CPP), HERE / "serving_llama_cpp_server.py", json.dumps(settings)]
    with served(command, port, "/health", log, {"PYTHONPATH": ""}) as process:
        # Not even its own slot's last prompt is to help; no prompt begins like another anyway.
        yield HttpSide(Target("127.0.0.1", port, extra={"cache_prompt": False}), process.pid)
