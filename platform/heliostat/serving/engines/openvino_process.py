"""Edge: the process that owns an openvino_genai pipeline and steps it.

It is a process of its own because `ContinuousBatchingPipeline.step()` holds the interpreter lock for the
whole step (20 to 200 ms): in a thread it would stop the event loop that feeds it.

It talks JSON lines over the socket it is given. In: `{"add": id, "prompt_ids": [...], "parameters": {...},
"adapter": name}`, `{"abort": id}`, `{"load": name, "folder": path, "reply": n}` and `{"unload": name}`; the
end of the stream means exit. Out: `{"ready": true}` or `{"failed": reason}` once; then after each step
`{"step": n, "tokens": [[id, ids, finish_reason, logprobs]], "kv_cache_usage": share}`, `{"refused": [id,
reason]}` for a request that cannot be worked on, and `{"reply": n, "error": reason or null}`. `logprobs` has
`[logprob, [[token id, logprob]]]` for each id, or nothing; here there are no others beside the chosen one.
"""

import select
import signal
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import openvino_genai as genai
import orjson

from heliostat.errors import ServingError
from heliostat.serving.engines.lora_folder import LoraFolder
from heliostat.serving.engines.openvino_pipeline import Pipeline, adapter_config, generation_config
from heliostat.serving.engines.patience import Patience
from heliostat.serving.engines.turns import Turns

FINISH_REASONS = {genai.GenerationFinishReason.STOP: "stop", genai.GenerationFinishReason.LENGTH: "length"}
PATIENCE_SECONDS = 2.0
"""How long requests of one adapter go on joining a batch while those of another wait for it to end."""
TOGETHER_SECONDS = 0.003
"""Requests that a gateway gets at once come to the engine one or two milliseconds apart."""
NEXT_SECONDS = 0.006
"""A client's next request is here so soon behind the end of its last answer, if it has one."""
MOST_SKIPS = 63
USAGE_SECONDS = 0.5
"""The share of the cache in use is looked at this often."""


class Lines:
    """JSON lines over a socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = b""

    def send(self, message: dict[str, Any]) -> None:
        """Write one message."""
        self._connection.sendall(orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE))

    def receive(self, seconds: float | None) -> list[dict[str, Any]] | None:
        """The messages that have arrived, after waiting so long for one, None for ever; None at the end."""
        messages: list[dict[str, Any]] = []
        while not messages:
            ready, _, _ = select.select([self._connection], [], [], seconds)
            if not ready:
                break
            received = self._connection.recv(1 << 20)
            if not received:
                return None
            *lines, self._buffer = (self._buffer + received).split(b"\n")
            messages += [orjson.loads(line) for line in lines]
        return messages


class PipelineLoop:
    """A pipeline and its requests: receives, steps, and sends what came out."""

    def __init__(self, pipeline: Pipeline, lines: Lines, max_num_seqs: int, max_step_tokens: int) -> None:
        """It works on `max_num_seqs` requests at a time, others wait; a step takes in `max_step_tokens`."""
        self._pipeline = pipeline
        self._lines = lines
        self._max_num_seqs = max_num_seqs
        self._max_step_tokens = max_step_tokens
        self._expects_company = False
        self._just_woken = False
        self._num_ended = 0
        self._patience = Patience(MOST_SKIPS)
        self._handles: dict[str, tuple[Any, bool]] = {}
        """By request id: the pipeline's handle, and whether logprobs are wanted."""
        self._turns: Turns[tuple[list[int], Any]] = Turns(PATIENCE_SECONDS)
        self._adapters: dict[str, Any] = {}
        self._wirings: deque[tuple[dict[str, Any], LoraFolder]] = deque()
        self._num_added = 0
        self._num_steps = 0
        self._usage = 0.0
        self._usage_at = 0.0

    def run(self) -> None:
        """Work until the other end closes the connection."""
        while self._listen():
            is_idle = self._pipeline.is_idle
            if is_idle and self._wirings:
                self._wire(*self._wirings.popleft())
            if not self._wirings:
                self._admit(is_idle)
            if not self._pipeline.is_idle:
                self._step()

    def _listen(self) -> bool:
        """Hear what has come, waiting for a request where there is none; False when the connection ends."""
        is_idle, waited = self._pipeline.is_idle and not self._wirings, len(self._turns)
        going_on = self._hear(None if is_idle and not waited else 0)
        if self._just_woken:
            self._expects_company |= not is_idle and len(self._turns) > waited
            self._just_woken = False
        ended, self._num_ended = self._num_ended, 0
        if going_on and is_idle and len(self._turns):
            return self._gather()
        if going_on and ended and not is_idle and not len(self._turns) and self._patience.is_worth_it():
            return self._await_next(ended)
        return going_on

    def _gather(self) -> bool:
        """Wait for a moment for what comes together with the first request, if something did the last time.

        The first of several would else have a step for itself, and the others wait for that. One that comes
        alone, as those of a chat do, does not wait.
        """
        going_on, deadline = True, time.monotonic() + TOGETHER_SECONDS
        while going_on and self._expects_company and self._waiting_tokens() < self._max_step_tokens:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            going_on = self._hear(left)
        self._expects_company, self._just_woken = len(self._turns) > 1, True
        return going_on

    def _await_next(self, num_ended: int) -> bool:
        """Wait for a moment for what clients send next whose answers have just ended.

        A batch of clients that each send one request behind the other would else miss a step each time, a
        long one where prompts of others are read in it.
        """
        going_on, deadline = True, time.monotonic() + NEXT_SECONDS
        while going_on and len(self._turns) < num_ended and (left := deadline - time.monotonic()) > 0:
            going_on = self._hear(left)
        self._patience.learn(paid=len(self._turns) > 0)
        return going_on

    def _hear(self, seconds: float | None) -> bool:
        messages = self._lines.receive(seconds)
        for message in messages or ():
            self._take(message)
        return messages is not None

    def _waiting_tokens(self) -> int:
        return sum(len(prompt_ids) for prompt_ids, _ in self._turns.items())

    def _take(self, message: dict[str, Any]) -> None:
        if "add" in message:
            self._queue(message)
        elif "abort" in message:
            self._abort(message["abort"])
        elif "load" in message:
            self._load(message)
        else:
            self._adapters.pop(message["unload"], None)

    def _queue(self, message: dict[str, Any]) -> None:
        request_id, name = message["add"], message["adapter"]
        try:
            adapter = None if name is None else self._adapters[name]
            self._pipeline.check_prompt(message["prompt_ids"])
            config = generation_config(message["parameters"])
        except KeyError:
            reason = f"adapter {name} is not loaded; load it, or ask for one of the model's list"
            self._lines.send({"refused": [request_id, reason]})
        except (ServingError, RuntimeError, TypeError) as error:
            self._lines.send({"refused": [request_id, _last_line(error)]})
        else:
            self._turns.add(request_id, adapter, (message["prompt_ids"], config))

    def _admit(self, is_idle: bool) -> None:
        if not len(self._turns):
            return
        room = self._max_num_seqs - (0 if is_idle else len(self._handles))
        admitted = self._turns.admit(not is_idle, time.monotonic(), max(0, room))
        if admitted and is_idle:
            self._pipeline.put_on(self._turns.current)
        for request_id, (prompt_ids, config) in admitted:
            self._num_added += 1
            try:
                handle = self._pipeline.add(self._num_added, prompt_ids, config)
            except RuntimeError as error:
                self._lines.send({"refused": [request_id, _last_line(error)]})
            else:
                self._handles[request_id] = (handle, config.logprobs > 0)

    def _abort(self, request_id: str) -> None:
        running = self._handles.pop(request_id, None)
        if running:
            running[0].cancel()  # the next step gives its cache blocks back
        else:
            self._turns.remove(request_id)

    def _load(self, message: dict[str, Any]) -> None:
        try:
            lora = self._pipeline.check(Path(message["folder"]))
            if self._wirings or self._pipeline.needs_wiring(lora):
                self._wirings.append((message, lora))  # when the requests under way have ended
            else:
                self._adopt(message, lora)
        except (ServingError, RuntimeError) as error:
            self._lines.send({"reply": message["reply"], "error": _last_line(error)})

    def _wire(self, message: dict[str, Any], lora: LoraFolder) -> None:
        if self._pipeline.needs_wiring(lora):
            self._pipeline.wire(lora)
        try:
            self._adopt(message, lora)
        except RuntimeError as error:
            self._lines.send({"reply": message["reply"], "error": _last_line(error)})

    def _adopt(self, message: dict[str, Any], lora: LoraFolder) -> None:
        self._adapters[message["load"]] = adapter_config(lora)
        self._lines.send({"reply": message["reply"], "error": None})

    def _step(self) -> None:
        self._pipeline.batching.step()
        self._num_steps += 1
        tokens = [entry for request_id in list(self._handles) for entry in self._read(request_id)]
        now = time.monotonic()
        if now - self._usage_at > USAGE_SECONDS or not self._handles:
            self._usage, self._usage_at = self._pipeline.batching.get_metrics().cache_usage / 100, now
        self._lines.send({"step": self._num_steps, "tokens": tokens, "kv_cache_usage": self._usage})

    def _read(self, request_id: str) -> list[tuple[str, list[int], str | None, list[Any]]]:
        handle, wants_logprobs = self._handles[request_id]
        token_ids: list[int] = []
        logprobs: list[Any] = []
        finish_reason = None
        while handle.can_read():
            (output,) = handle.read().values()
            token_ids += output.generated_ids
            if wants_logprobs:
                logprobs += [(logprob, ()) for logprob in output.generated_log_probs]
            finish_reason = FINISH_REASONS.get(output.finish_reason)
        if finish_reason:
            del self._handles[request_id]
            self._num_ended += 1
        elif not token_ids and handle.get_status() == genai.GenerationStatus.IGNORED:
            del self._handles[request_id]
            reason = "no room for it in the KV cache; raise engine.cache_size_gb or send a shorter prompt"
            self._lines.send({"refused": [request_id, reason]})
        return [(request_id, token_ids, finish_reason, logprobs)] if token_ids or finish_reason else []


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def main() -> None:
    """Arguments: the socket's file descriptor, the model's folder, the engine's config as JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, which then closes the socket
    lines = Lines(socket.socket(fileno=int(sys.argv[1])))
    options = orjson.loads(sys.argv[3])
    try:
        pipeline = Pipeline(sys.argv[2], options)
    except (RuntimeError, OSError, LookupError, ValueError) as error:
        lines.send({"failed": _last_line(error)})
        raise
    lines.send({"ready": True})
    PipelineLoop(pipeline, lines, options["max_num_seqs"], options["max_num_batched_tokens"]).run()


if __name__ == "__main__":
    main()
