"""Plain transformers as an engine: fp32, one request at a time, in a thread. The reference for the others."""

import asyncio
import os
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from heliostat.errors import HeliostatError, ServingError
from heliostat.models.loading import load_model
from heliostat.serving.engines.config import TransformersEngineConfig
from heliostat.serving.engines.interface import (
    Capabilities,
    EngineStats,
    FinishReason,
    SamplingParameters,
    TokenDelta,
)
from heliostat.serving.engines.requests import Advance, RequestTable
from heliostat.serving.engines.transformers_model import EngineModel

CAPABILITIES = Capabilities(
    max_top_logprobs=20,
    penalties=True,
    repetition_penalty=True,
    min_p=True,
    logit_bias=True,
    grammar=True,
    adapters=True,
    embeddings=True,
)


@dataclass
class _Job:
    request_id: str
    prompt_ids: list[int]
    parameters: SamplingParameters
    adapter: str | None
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass
class _Errand:
    """Something else to do with the model, in its turn."""

    work: Callable[[], Any]
    outcome: "Future[Any]" = field(default_factory=Future)


class TransformersEngine:
    """A transformers model and the thread that runs it; made by `start`."""

    def __init__(self, model: EngineModel, config: TransformersEngineConfig, max_context_tokens: int) -> None:
        self._model = model
        self._num_threads = config.num_threads or len(os.sched_getaffinity(0))
        self._max_context_tokens = max_context_tokens
        self._requests = RequestTable(config.stall_timeout_seconds)
        self._jobs: queue.SimpleQueue[_Job | _Errand | None] = queue.SimpleQueue()
        self._by_id: dict[str, _Job] = {}
        self._num_steps = 0
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
        model = await asyncio.to_thread(load_model, folder)
        return cls(EngineModel(model, folder), config, max_context_tokens)

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
        job = self._by_id[request_id] = _Job(request_id, list(prompt_ids), parameters, adapter)
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
        """A vector for each prompt; see the interface."""
        # One errand each, so that requests come in between.
        outcomes = [self._errand(partial(self._model.embed, list(ids))) for ids in prompts]
        return list(await asyncio.gather(*outcomes))

    async def load_adapter(self, name: str, folder: str) -> None:
        """Make a LoRA adapter known; see the interface."""
        await self._errand(lambda: self._model.load_adapter(name, Path(folder)))

    async def unload_adapter(self, name: str) -> None:
        """Forget an adapter behind the requests that are there; see the interface."""
        await self._errand(lambda: self._model.unload_adapter(name))

    def stats(self) -> EngineStats:
        """What the engine is doing."""
        return self._requests.stats()

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

    async def _errand(self, work: Callable[[], Any]) -> Any:
        if self._requests.failure:
            raise self._requests.failure
        errand = _Errand(work)
        self._jobs.put(errand)
        return await asyncio.wrap_future(errand.outcome)

    def _work(self) -> None:
        """The thread: one request or errand after the other."""
        import torch

        torch.set_num_threads(self._num_threads)
        try:
            while (job := self._jobs.get()) is not None:
                if isinstance(job, _Errand):
                    self._run(job)
                else:
                    self._serve(job)
        finally:
            gone = ServingError("the engine's thread ended; it will be restarted")
            self._tell(self._requests.fail, gone)
            while not self._jobs.empty():
                job = self._jobs.get()
                if isinstance(job, _Errand) and job.outcome.set_running_or_notify_cancel():
                    job.outcome.set_exception(gone)

    def _run(self, errand: _Errand) -> None:
        if not errand.outcome.set_running_or_notify_cancel():
            return  # whoever asked has left
        try:
            errand.outcome.set_result(errand.work())
        except (HeliostatError, RuntimeError, ValueError, IndexError) as error:
            errand.outcome.set_exception(_failure(error))
        self._advance([])

    def _serve(self, job: _Job) -> None:
        try:
            if not job.cancelled.is_set():
                self._answer(job)
        except (HeliostatError, RuntimeError, ValueError, IndexError) as error:
            self._tell(self._requests.end, job.request_id, _failure(error))

    def _answer(self, job: _Job) -> None:
        ends = set(job.parameters.stop_token_ids)
        ends |= set() if job.parameters.ignore_eos else self._model.end_token_ids
        answer = self._model.answer(job.prompt_ids, job.parameters, job.adapter)
        for position, (token, logprobs, complete) in enumerate(answer, 1):
            finish: FinishReason | None = "length" if position == job.parameters.max_tokens else None
            finish = "stop" if complete or token in ends else finish
            self._advance([Advance(job.request_id, [token], finish, logprobs)])
            if finish or job.cancelled.is_set():
                return

    def _advance(self, advances: list[Advance]) -> None:
        self._num_steps += 1
        self._tell(self._requests.step, self._num_steps, advances)

    def _tell(self, callback: Any, *arguments: Any) -> None:
        """Call back on the event loop's thread; when the loop has gone, there is nobody to tell."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)


def _failure(error: Exception) -> ServingError:
    """What is told of a request that met, for instance, too little memory or a token id that is none."""
    if isinstance(error, ServingError):
        return error
    return ServingError(f"the engine failed on the request: {str(error).strip().splitlines()[0]}")
