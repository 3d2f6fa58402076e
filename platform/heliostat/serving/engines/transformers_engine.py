"""Plain transformers as an engine: fp32, one request at a time, in a thread. The reference for the others."""

import asyncio
import os
import queue
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heliostat.errors import ServingError
from heliostat.models.loading import load_model
from heliostat.serving.engines.config import TransformersEngineConfig
from heliostat.serving.engines.interface import (
    Capabilities,
    EngineStats,
    FinishReason,
    SamplingParameters,
    TokenDelta,
)
from heliostat.serving.engines.requests import RequestTable
from heliostat.serving.engines.sampling import next_token

CAPABILITIES = Capabilities()


@dataclass
class _Job:
    request_id: str
    prompt_ids: list[int]
    parameters: SamplingParameters
    cancelled: threading.Event = field(default_factory=threading.Event)


class TransformersEngine:
    """A transformers model and the thread that runs it; made by `start`."""

    def __init__(self, model: Any, config: TransformersEngineConfig, max_context_tokens: int) -> None:
        self._model = model
        self._num_threads = config.num_threads or len(os.sched_getaffinity(0))
        self._max_context_tokens = max_context_tokens
        self._requests = RequestTable(config.stall_timeout_seconds)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._by_id: dict[str, _Job] = {}
        self._num_steps = 0
        self._end_token_ids = _end_token_ids(model)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="transformers-engine", daemon=True)
        self._thread.start()

    @classmethod
    async def start(
        cls, folder: Path, config: TransformersEngineConfig, max_context_tokens: int
    ) -> "TransformersEngine":
        """Load a Hugging Face folder in fp32.

        Raises:
            ModelError: it cannot be loaded.
        """
        return cls(await asyncio.to_thread(load_model, folder), config, max_context_tokens)

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        return CAPABILITIES

    @property
    def max_context_tokens(self) -> int:
        """The longest prompt and answer together."""
        return self._max_context_tokens

    async def generate(
        self,
        prompt_ids: Sequence[int],
        parameters: SamplingParameters,
        request_id: str,
        adapter: str | None = None,
    ) -> AsyncGenerator[TokenDelta]:
        """Deltas until one has a finish reason; see the interface."""
        stream = self._requests.open(request_id)
        job = self._by_id[request_id] = _Job(request_id, list(prompt_ids), parameters)
        self._jobs.put(job)
        try:
            async for delta in stream.deltas():
                yield delta
        finally:
            await self.abort(request_id)

    async def abort(self, request_id: str) -> None:
        """Stop a request behind the step it is in; nothing happens when it has ended."""
        self._requests.end(request_id)
        job = self._by_id.pop(request_id, None)
        if job:
            job.cancelled.set()

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
        return EngineStats(len(self._requests), self._requests.num_steps, self._requests.num_generated_tokens)

    async def check_health(self) -> None:
        """Raise ServingError when the thread has died or hangs."""
        self._requests.check_health()

    async def close(self) -> None:
        """End the thread behind the step it is in."""
        self._requests.fail(ServingError("the engine was stopped; send the request again"))
        for request_id in list(self._by_id):
            await self.abort(request_id)
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        """The thread: one request after the other."""
        import torch

        torch.set_num_threads(self._num_threads)
        try:
            while (job := self._jobs.get()) is not None:
                try:
                    with torch.inference_mode():
                        self._answer(job)
                except (RuntimeError, ValueError, IndexError) as error:  # such as: out of memory, a wrong id
                    reason = ServingError(f"the engine failed on the request: {str(error).splitlines()[0]}")
                    self._tell(self._requests.end, job.request_id, reason)
        finally:
            self._tell(self._requests.fail, ServingError("the engine's thread ended; it will be restarted"))

    def _answer(self, job: _Job) -> None:
        import torch

        generator = torch.Generator()
        if job.parameters.seed is None:
            generator.seed()
        else:
            generator.manual_seed(job.parameters.seed % 2**63)
        ends = self._end_token_ids | set(job.parameters.stop_token_ids)
        fed, cache = torch.tensor([job.prompt_ids]), None
        for position in range(1, job.parameters.max_tokens + 1):
            if job.cancelled.is_set():
                return
            output = self._model(input_ids=fed, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
            token = next_token(output.logits[0, -1], job.parameters, generator)
            fed = torch.tensor([[token]])
            finish: FinishReason | None = "length" if position == job.parameters.max_tokens else None
            finish = "stop" if token in ends else finish
            self._num_steps += 1
            self._tell(self._requests.step, self._num_steps, [(job.request_id, [token], finish)])
            if finish:
                return

    def _tell(self, callback: Any, *arguments: Any) -> None:
        """Call back on the event loop's thread; when the loop has gone, there is nobody to tell."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)


def _end_token_ids(model: Any) -> set[int]:
    given = model.generation_config.eos_token_id
    if given is None:
        return set()
    return {given} if isinstance(given, int) else set(given)
