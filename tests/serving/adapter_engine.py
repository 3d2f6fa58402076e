"""An engine for the tests of adapters: says which adapter answers, and loads them when it is let."""

import asyncio

from tests.serving.scripted import EVERYTHING

from heliostat.endpoints import ServedAdapter
from heliostat.errors import ServingError
from heliostat.serving.engines.adapter_pool import AdapterPool
from heliostat.serving.engines.interface import EngineStats, TokenDelta


def adapter(name: str, number: int = 1) -> ServedAdapter:
    return ServedAdapter(name=name, artifact_id=f"adapter-{name}{number}", artifact_uri=f"/models/{name}")


async def fetch(served: ServedAdapter) -> str:
    return f"/local/{served.name}"


def pool_of(engine: "AdapterEngine", max_loaded: int = 2) -> AdapterPool:
    return AdapterPool(engine, max_loaded, fetch)


class AdapterEngine:
    """Answers with the letters of the adapter's id ("base" for none), one token each.

    `log` has its loads and unloads in their order. While `loading` is cleared loads wait, and while
    `answering` is, answers behind each token. `faults` are errors of loads, by id.
    """

    capabilities = EVERYTHING
    max_context_tokens = 2000

    def __init__(self, encode=lambda text: list(text.encode())) -> None:
        self.encode = encode
        self.loaded: set[str] = set()
        self.log: list[str] = []
        self.asked: list[tuple[list[int], str | None]] = []
        self.faults: dict[str, Exception] = {}
        self.loading, self.answering = asyncio.Event(), asyncio.Event()
        self.loading.set()
        self.answering.set()
        self.healthy = True

    async def load_adapter(self, name: str, folder: str) -> None:
        self.log.append(f"load {name} {folder}")
        await self.loading.wait()
        if name in self.faults:
            raise self.faults[name]
        self.loaded.add(name)

    async def unload_adapter(self, name: str) -> None:
        self.log.append(f"unload {name}")
        self.loaded.remove(name)

    async def generate(self, prompt_ids, parameters, request_id, adapter=None):
        self.asked.append((list(prompt_ids), adapter))
        ids = self.encode(adapter or "base")[: parameters.max_tokens]
        for place, token in enumerate(ids):
            if adapter is not None and adapter not in self.loaded:
                raise ServingError(f"adapter {adapter} is not loaded")
            yield TokenDelta((token,), "stop" if place == len(ids) - 1 else None)
            await self.answering.wait()

    async def embed(self, prompts):
        return [[0.6, 0.8] for _ in prompts]

    async def abort(self, request_id: str) -> None:
        return None

    async def check_health(self) -> None:
        if not self.healthy:
            raise ServingError("it is gone")

    def stats(self) -> EngineStats:
        return EngineStats(0, 0, 0)

    async def close(self) -> None:
        return None
