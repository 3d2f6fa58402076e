"""Edge: the process that owns an openvino_genai pipeline and steps it.

It is a process of its own because `ContinuousBatchingPipeline.step()` holds the interpreter lock for the
whole step (20 to 200 ms): in a thread it would stop the event loop that feeds it.

It talks JSON lines over the socket it is given. In: `{"add": id, "prompt_ids": [...], "parameters": {...}}`
and `{"abort": id}`; the end of the stream means exit. Out: `{"ready": true}` or `{"failed": reason}` once;
then after each step `{"step": n, "tokens": [[id, ids, finish_reason]], "kv_cache_usage": share}`, and
`{"refused": [id, reason]}` for a request that cannot be worked on.
"""

import json
import secrets
import select
import signal
import socket
import sys
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai

SEED_BITS = 32
FINISH_REASONS = {genai.GenerationFinishReason.STOP: "stop", genai.GenerationFinishReason.LENGTH: "length"}


class Lines:
    """JSON lines over a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    def send(self, message: dict[str, Any]) -> None:
        """Write one message."""
        self._connection.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def receive(self, wait: bool) -> list[dict[str, Any]] | None:
        """The messages that have arrived, after waiting for one if asked; None at the end."""
        messages: list[dict[str, Any]] = []
        while not messages:
            ready, _, _ = select.select([self._connection], [], [], None if wait else 0)
            if not ready:
                break
            received = self._connection.recv(1 << 20)
            if not received:
                return None
            *lines, self._buffer = (self._buffer + received).split(b"\n")
            messages += [json.loads(line) for line in lines]
        return messages


class PipelineLoop:
    """A pipeline and its requests: receives, steps, and sends what came out."""

    def __init__(self, pipeline: Any, lines: Lines) -> None:
        self._pipeline = pipeline
        self._lines = lines
        self._handles: dict[str, Any] = {}
        self._num_added = 0
        self._num_steps = 0

    def run(self) -> None:
        """Work until the other end closes the connection."""
        while True:
            messages = self._lines.receive(wait=not self._pipeline.has_non_finished_requests())
            if messages is None:
                return
            for message in messages:
                if "add" in message:
                    self._add(message["add"], message["prompt_ids"], message["parameters"])
                else:
                    self._abort(message["abort"])
            if self._pipeline.has_non_finished_requests():
                self._step()

    def _add(self, request_id: str, prompt_ids: list[int], parameters: dict[str, Any]) -> None:
        self._num_added += 1
        tensor = ov.Tensor(np.array([prompt_ids], dtype=np.int64))
        try:
            handle = self._pipeline.add_request(self._num_added, tensor, generation_config(parameters))
        except RuntimeError as error:
            self._lines.send({"refused": [request_id, _last_line(error)]})
        else:
            self._handles[request_id] = handle

    def _abort(self, request_id: str) -> None:
        handle = self._handles.pop(request_id, None)
        if handle:
            handle.cancel()  # the next step gives its cache blocks back

    def _step(self) -> None:
        self._pipeline.step()
        self._num_steps += 1
        tokens = [entry for request_id in list(self._handles) for entry in self._read(request_id)]
        usage = self._pipeline.get_metrics().cache_usage / 100
        self._lines.send({"step": self._num_steps, "tokens": tokens, "kv_cache_usage": usage})

    def _read(self, request_id: str) -> list[tuple[str, list[int], str | None]]:
        handle = self._handles[request_id]
        token_ids: list[int] = []
        finish_reason = None
        while handle.can_read():
            (output,) = handle.read().values()
            token_ids += output.generated_ids
            finish_reason = FINISH_REASONS.get(output.finish_reason)
        if finish_reason:
            del self._handles[request_id]
        elif handle.get_status() == genai.GenerationStatus.IGNORED:
            del self._handles[request_id]
            reason = "no room for it in the KV cache; raise engine.cache_size_gb or send a shorter prompt"
            self._lines.send({"refused": [request_id, reason]})
        return [(request_id, token_ids, finish_reason)] if token_ids or finish_reason else []


def generation_config(parameters: dict[str, Any]) -> Any:
    """Sampling parameters in openvino-genai's words."""
    config = genai.GenerationConfig()
    config.max_new_tokens = parameters["max_tokens"]
    config.stop_token_ids = set(parameters["stop_token_ids"])
    config.do_sample = parameters["temperature"] > 0
    if config.do_sample:
        config.temperature = parameters["temperature"]
        config.top_p = parameters["top_p"]
        if parameters["top_k"]:
            config.top_k = parameters["top_k"]
        seed = parameters["seed"]
        config.rng_seed = secrets.randbits(SEED_BITS) if seed is None else seed % 2**SEED_BITS
    return config


def load_pipeline(folder: str, options: dict[str, Any]) -> Any:
    """The pipeline of an exported folder, set up as the engine's config says."""
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = options["cache_size_gb"]
    scheduler.max_num_batched_tokens = options["max_num_batched_tokens"]
    scheduler.max_num_seqs = options["max_num_seqs"]
    scheduler.enable_prefix_caching = options["prefix_caching"]
    properties = {
        "INFERENCE_PRECISION_HINT": options["inference_precision"],
        "KV_CACHE_PRECISION": options["kv_cache_precision"],
    }
    if options["num_threads"]:
        properties["INFERENCE_NUM_THREADS"] = options["num_threads"]
    return genai.ContinuousBatchingPipeline(folder, scheduler, "CPU", properties)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def main() -> None:
    """Arguments: the socket's file descriptor, the model's folder, the engine's config as JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, which then closes the socket
    lines = Lines(socket.socket(fileno=int(sys.argv[1])))
    try:
        pipeline = load_pipeline(sys.argv[2], json.loads(sys.argv[3]))
    except RuntimeError as error:
        lines.send({"failed": _last_line(error)})
        raise
    lines.send({"ready": True})
    PipelineLoop(pipeline, lines).run()


if __name__ == "__main__":
    main()
