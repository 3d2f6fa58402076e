"""Edge: the process that owns a vLLM engine. One file, which knows nothing of Heliostat.

vLLM wants versions of torch and transformers of its own, so this runs under another interpreter, one that has
vLLM, and imports only that and the standard library.

It talks JSON lines over the socket it is given, as `openvino_process.py` does. In: `{"add": id, "prompt_ids":
[...], "parameters": {...}, "adapter": name}`, `{"abort": id}`, `{"load": name, "folder": path, "reply": n}`
and `{"unload": name}`; the end of the stream means exit. Out: `{"ready": true, "max_context_tokens": n}` or
`{"failed": reason}` once; then with each step `{"step": n, "tokens": [[id, ids, finish_reason, logprobs]],
"kv_cache_usage": share}`, `{"refused": [id, reason]}` for a request that cannot be worked
on, and `{"reply": n, "error": reason or null}`. `logprobs` has `[logprob, [[token id, logprob]]]` for each
id, or nothing.
"""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

LINE_LIMIT_BYTES = 1 << 24
GIGABYTE = 1 << 30
WATCH_SECONDS = 1.0
MINIMUM_VERSION = (0, 14, 1)
"""Older ones run code that a model's folder names (CVE-2026-22807, CVE-2026-24779)."""


class Loop:
    """An engine and its requests: receives, and sends what each step brought."""

    def __init__(self, engine: Any, steps: "Steps", connection: socket.socket) -> None:
        self._engine = engine
        self._steps = steps
        self._connection = connection
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._adapters: dict[str, Any] = {}
        self._num_adapters = 0
        self._tokens: list[list[Any]] = []
        self._flushing = False
        self._writer: asyncio.StreamWriter

    async def run(self) -> None:
        """Work until the other end closes the connection, or the engine dies."""
        reader, self._writer = await asyncio.open_connection(sock=self._connection, limit=LINE_LIMIT_BYTES)
        self._steps.notify = self._flush_soon
        self._send({"ready": True, "max_context_tokens": self._engine.model_config.max_model_len})
        changes = {asyncio.create_task(self._watch())}
        while line := await reader.readline():
            message = json.loads(line)
            if "add" in message:
                self._tasks[message["add"]] = asyncio.create_task(self._answer(message))
            elif "abort" in message:
                if message["abort"] in self._tasks:
                    self._tasks.pop(message["abort"]).cancel()  # vLLM aborts a request whose reader leaves
            else:
                changes.add(change := asyncio.create_task(self._change_adapters(message)))
                change.add_done_callback(changes.discard)

    async def _watch(self) -> None:
        """An engine that dies while nobody asks is to be noticed as well."""
        while not self._engine.errored:
            await asyncio.sleep(WATCH_SECONDS)
        leave(self._engine.dead_error)

    async def _answer(self, message: dict[str, Any]) -> None:
        from vllm.v1.engine.exceptions import EngineDeadError

        request_id = message["add"]
        try:
            await self._generate(request_id, message)
        except EngineDeadError as error:
            leave(error)
        except (ValueError, TypeError, LookupError) as error:
            self._send({"refused": [request_id, last_line(error)]})
        except Exception as error:
            self._send({"refused": [request_id, last_line(error)]})
            raise
        finally:
            if self._tasks.get(request_id) is asyncio.current_task():
                del self._tasks[request_id]

    async def _generate(self, request_id: str, message: dict[str, Any]) -> None:
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        parameters = message["parameters"]
        arguments = sampling_arguments(parameters)
        if parameters["grammar"]:
            grammar = grammar_arguments(parameters["grammar"])
            arguments["structured_outputs"] = StructuredOutputsParams(**grammar)
        outputs = self._engine.generate(
            TokensPrompt(prompt_token_ids=message["prompt_ids"]),
            SamplingParams(output_kind=RequestOutputKind.DELTA, detokenize=False, **arguments),
            request_id,
            lora_request=self._adapter(message["adapter"]),
        )
        async for output in outputs:
            (completion,) = output.outputs
            ids = list(completion.token_ids)
            reason = FINISH_REASONS.get(completion.finish_reason)
            rows = logprob_rows(ids, completion.logprobs, parameters["logprobs"])
            if ids or reason:
                self._tokens.append([request_id, ids, reason, rows])
                self._flush_soon()

    def _adapter(self, name: str | None) -> Any:
        if name is None:
            return None
        if name not in self._adapters:
            raise LookupError(f"adapter {name} is not loaded; load it, or ask for one of the model's list")
        return self._adapters[name]

    async def _change_adapters(self, message: dict[str, Any]) -> None:
        if "unload" in message:
            adapter = self._adapters.pop(message["unload"], None)
            if adapter:
                await self._engine.remove_lora(adapter.lora_int_id)
            return
        name, folder, error = message["load"], message["folder"], None
        # Whatever comes of it, also vLLM's plain Exception: an adapter that does not load ends no engine.
        (raised,) = await asyncio.gather(self._load(name, folder), return_exceptions=True)
        if raised:
            error = f"adapter {name} of {folder} cannot be loaded: {last_line(raised)}"
        self._send({"reply": message["reply"], "error": error})

    async def _load(self, name: str, folder: str) -> None:
        from vllm.lora.request import LoRARequest

        self._num_adapters += 1
        # A number of its own each time: keys and values kept under an old one are not read for a new one.
        adapter = LoRARequest(name, self._num_adapters, folder)
        await self._engine.add_lora(adapter)
        self._adapters[name] = adapter

    def _flush_soon(self) -> None:
        """Send behind this turn of the event loop: what one step brought to many requests is one message."""
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        tokens, self._tokens = self._tokens, []
        self._send(
            {"step": self._steps.count, "tokens": tokens, "kv_cache_usage": self._steps.kv_cache_usage}
        )

    def _send(self, message: dict[str, Any]) -> None:
        self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")


class Steps:
    """What vLLM's statistics say of its steps: the heartbeat."""

    def __init__(self) -> None:
        self.count = 0
        self.kv_cache_usage = 0.0
        self.notify: Callable[[], None] = lambda: None

    def record(self, scheduler_stats: Any) -> None:
        """A step is over."""
        self.count += 1
        if scheduler_stats is not None:
            self.kv_cache_usage = scheduler_stats.kv_cache_usage
        self.notify()


FINISH_REASONS = {"stop": "stop", "length": "length"}


def sampling_arguments(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Sampling parameters in vLLM's words, grammar left out."""
    names = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "logprobs")
    penalties = ("presence_penalty", "frequency_penalty", "repetition_penalty")
    arguments = {name: parameters[name] for name in (*names, *penalties)}
    arguments["stop_token_ids"] = list(parameters["stop_token_ids"])
    arguments["ignore_eos"] = bool(parameters.get("ignore_eos"))
    if parameters["logit_bias"]:
        arguments["logit_bias"] = {int(token): bias for token, bias in parameters["logit_bias"]}
    return arguments


def grammar_arguments(grammar: Mapping[str, str]) -> dict[str, Any]:
    """What an answer must look like, in vLLM's words."""
    return {"json": grammar["schema"]} if grammar["kind"] == "json_schema" else {"json_object": True}


def logprob_rows(ids: list[int], logprobs: Any, asked: int | None) -> list[Any]:
    """`[logprob, [[token id, logprob], ...]]` for each id; vLLM adds the chosen token to the likeliest."""
    if asked is None or not logprobs:
        return []
    rows = []
    for token, found in zip(ids, logprobs, strict=True):
        ranked = sorted(found.items(), key=lambda item: item[1].rank)
        top = [[other, value.logprob] for other, value in ranked if value.rank <= asked]
        rows.append([found[token].logprob, top])
    return rows


def engine_arguments(folder: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's config in vLLM's words; what is None there is left to vLLM."""
    arguments = {
        "model": folder,
        "dtype": options["dtype"],
        "tensor_parallel_size": options["tensor_parallel_size"],
        "gpu_memory_utilization": options["gpu_memory_utilization"],
        "max_model_len": options["max_context_tokens"],
        "max_num_batched_tokens": options["max_num_batched_tokens"],
        "max_num_seqs": options["max_num_seqs"],
        "enable_prefix_caching": options["prefix_caching"],
        "enforce_eager": not options["compile"],
    }
    if options["cache_size_gb"]:
        arguments["kv_cache_memory_bytes"] = options["cache_size_gb"] * GIGABYTE
    if options["max_adapters"]:
        arguments |= {
            "enable_lora": True,
            "max_loras": options["max_adapters"],
            "max_lora_rank": options["max_adapter_rank"],
        }
    return {name: value for name, value in arguments.items() if value is not None}


def prepare_environment(options: Mapping[str, Any]) -> None:
    """What vLLM reads before it is imported."""
    environment = {
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        # Its logs go where ours go; standard output belongs to nobody here.
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    }
    if options["cache_size_gb"]:
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(options["cache_size_gb"])
    # Left alone it takes one core in two where cores come in pairs, and keeps one of those for itself.
    cores = sorted(os.sched_getaffinity(0))[: options["num_threads"]]
    environment["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    for name, value in environment.items():
        os.environ.setdefault(name, value)


def check_version(version: str) -> str | None:
    """Why a version of vLLM cannot be used, or None."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3])
    if numbers >= MINIMUM_VERSION:
        return None
    least = ".".join(map(str, MINIMUM_VERSION))
    return f"vllm {version} is too old; install {least} or later for {sys.executable}"


def load_engine(folder: str, options: Mapping[str, Any]) -> tuple[Any, Steps]:
    """The engine of a Hugging Face folder, and the count of its steps.

    Raises:
        ImportError, ValueError, RuntimeError, OSError: vLLM is not there, or cannot load it.
    """
    import vllm

    if reason := check_version(vllm.__version__):
        raise ImportError(reason)
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.metrics.loggers import StatLoggerBase

    steps = Steps()

    class Recorder(StatLoggerBase):  # type: ignore[misc, unused-ignore]
        def __init__(self, *_: Any) -> None:
            pass

        def record(self, scheduler_stats: Any = None, *_: Any, **__: Any) -> None:
            steps.record(scheduler_stats)

        def log_engine_initialized(self) -> None:
            pass

    arguments = AsyncEngineArgs(**engine_arguments(folder, options))
    return AsyncLLM.from_engine_args(arguments, stat_loggers=[Recorder]), steps


def last_line(error: BaseException) -> str:
    """What an error says, in one line; of pydantic's report, its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in lines if not line.startswith("For further information")]
    return reasons[-1] if reasons else type(error).__name__


def leave(error: BaseException) -> None:
    """End this process: its engine is dead, and a new one starts with a new process."""
    print(f"vLLM's engine died: {last_line(error)}", file=sys.stderr, flush=True)
    os._exit(1)


async def serve(connection: socket.socket, folder: str, options: Mapping[str, Any]) -> None:
    """Load, then work until the connection ends."""
    try:
        engine, steps = load_engine(folder, options)
    except ModuleNotFoundError as error:
        reason = f"{sys.executable} has no module {error.name}; install vllm there"
        tell_failure(connection, reason)
        raise
    except (ImportError, ValueError, RuntimeError, OSError) as error:
        tell_failure(connection, last_line(error))
        raise
    try:
        await Loop(engine, steps, connection).run()
    finally:
        engine.shutdown()


def tell_failure(connection: socket.socket, reason: str) -> None:
    """The one message instead of "ready"."""
    connection.sendall(json.dumps({"failed": reason}).encode() + b"\n")


def main() -> None:
    """Arguments: the socket's file descriptor, the model's folder, the engine's config as JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the owner, which then closes the socket
    options = json.loads(sys.argv[3])
    prepare_environment(options)
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], options))


if __name__ == "__main__":
    main()
