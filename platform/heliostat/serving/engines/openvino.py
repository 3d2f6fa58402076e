"""openvino-genai's continuous batching as an engine: starts the process that steps it, and talks to it.

Imports no OpenVINO: `openvino_process.py` does, in a process of its own, and says why.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heliostat.errors import ServingError
from heliostat.serving.engines.config import OpenVINOEngineConfig
from heliostat.serving.engines.interface import Capabilities, EngineStats, SamplingParameters, TokenDelta
from heliostat.serving.engines.requests import RequestTable

LINE_LIMIT_BYTES = 1 << 24
EXIT_TIMEOUT_SECONDS = 10.0
CAPABILITIES = Capabilities()


class OpenVINOEngine:
    """An engine whose model lives in a child process; made by `start`."""

    def __init__(self, config: OpenVINOEngineConfig, max_context_tokens: int) -> None:
        self._requests = RequestTable(config.stall_timeout_seconds)
        self._max_context_tokens = max_context_tokens
        self._kv_cache_usage: float | None = None
        self._process: subprocess.Popen[bytes]
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, folder: Path, config: OpenVINOEngineConfig, max_context_tokens: int
    ) -> "OpenVINOEngine":
        """Load an exported folder; returns when the pipeline is ready.

        Raises:
            ServingError: OpenVINO cannot load it.
        """
        engine = cls(config, max_context_tokens)
        ours, theirs = socket.socketpair()
        with theirs:
            engine._process = _spawn(theirs, folder, config)
        engine._reader, engine._writer = await asyncio.open_connection(sock=ours, limit=LINE_LIMIT_BYTES)
        try:
            first = await engine._receive() or {"failed": "its process ended; its log says why"}
        except BaseException:
            await engine.close()
            raise
        if "failed" in first:
            await engine.close()
            raise ServingError(f"{folder}: OpenVINO cannot load this model: {first['failed']}")
        engine._reading = asyncio.create_task(engine._read())
        return engine

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return CAPABILITIES

    @property
    def max_context_tokens(self) -> int:
        """The longest prompt and answer together."""
        return self._max_context_tokens

    @property
    def process_id(self) -> int:
        """The child process."""
        return self._process.pid

    async def generate(
        self,
        prompt_ids: Sequence[int],
        parameters: SamplingParameters,
        request_id: str,
        adapter: str | None = None,
    ) -> AsyncGenerator[TokenDelta]:
        """Deltas until one has a finish reason; see the interface."""
        stream = self._requests.open(request_id)
        try:
            self._send({"add": request_id, "prompt_ids": list(prompt_ids), "parameters": asdict(parameters)})
            async for delta in stream.deltas():
                yield delta
        finally:
            await self.abort(request_id)

    async def abort(self, request_id: str) -> None:
        """Free a request's slot; nothing happens when it has ended."""
        if self._requests.end(request_id) and not self._requests.failure:
            self._send({"abort": request_id})

    async def embed(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Refused: its capabilities say no."""
        raise ServingError("this engine gives no embeddings")

    async def load_adapter(self, name: str, folder: str) -> None:
        """Refused: its capabilities say no."""
        raise ServingError(f"this engine takes no adapters, so {name} cannot be loaded")

    async def unload_adapter(self, name: str) -> None:
        """Nothing to let go of."""

    def stats(self) -> EngineStats:
        """What the engine is doing."""
        return EngineStats(
            num_requests=len(self._requests),
            num_steps=self._requests.num_steps,
            num_generated_tokens=self._requests.num_generated_tokens,
            kv_cache_usage=self._kv_cache_usage,
        )

    async def check_health(self) -> None:
        """Raise ServingError when the process is gone or hangs."""
        self._requests.check_health()

    async def close(self) -> None:
        """End the process; it leaves by itself when its socket closes, or is killed if it hangs."""
        self._requests.fail(ServingError("the engine was stopped; send the request again"))
        if self._reading:
            self._reading.cancel()
        self._writer.close()
        try:
            await asyncio.to_thread(self._process.wait, EXIT_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    def _send(self, message: dict[str, Any]) -> None:
        self._writer.write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    async def _receive(self) -> dict[str, Any] | None:
        """The next message, or None when the process has ended."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        return dict(json.loads(line)) if line else None

    async def _read(self) -> None:
        """Hand out what the process sends until it ends."""
        while (message := await self._receive()) is not None:
            if "refused" in message:
                request_id, reason = message["refused"]
                self._requests.end(request_id, ServingError(f"the engine refused the request: {reason}"))
            else:
                self._kv_cache_usage = message["kv_cache_usage"]
                self._requests.step(message["step"], message["tokens"])
        code = await asyncio.to_thread(self._process.wait)
        self._requests.fail(
            ServingError(f"the engine's process ended with code {code}; it will be restarted")
        )


def _spawn(theirs: socket.socket, folder: Path, config: OpenVINOEngineConfig) -> subprocess.Popen[bytes]:
    arguments = [str(theirs.fileno()), str(folder), config.model_dump_json()]
    # -P and an explicit path: the child must find the same heliostat, and nothing in the working folder.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "heliostat.serving.engines.openvino_process", *arguments],
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
        env=environment,
    )
