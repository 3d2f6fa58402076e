"""A gateway with everything switched on, in a process of its own; its engine says the prompt again.

    python -m tests.serving.echo_gateway '{"tokenizer": FOLDER, ...}'

The fields are those of `EchoSpec`. With `counts`, each line on standard input is answered with a line of
JSON: what the process holds just then.
"""

import asyncio
import gc
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import uvicorn

from heliostat.errors import ServingError
from heliostat.models.loading import load_tokenizer
from heliostat.serving.api.answering import ServedModel
from heliostat.serving.cache.config import CacheConfig, ExactCacheConfig, SemanticCacheConfig
from heliostat.serving.cache.response_cache import ResponseCache
from heliostat.serving.channel.server import ChannelServer
from heliostat.serving.config import ServeConfig
from heliostat.serving.engines.interface import Capabilities, EngineStats, SamplingParameters, TokenDelta
from heliostat.serving.fleet.dispatch import Fleet
from heliostat.serving.fleet.routes import Replica, Snapshot
from heliostat.serving.gateway.app import build_gateway
from heliostat.serving.gateway.choosing import Chosen
from heliostat.serving.gateway.http_server import server_config
from heliostat.serving.gateway.kept_answers import KeptAnswers
from heliostat.serving.gateway.services import Doormen, Services
from heliostat.serving.guard.config import GuardConfig, WordsRule
from heliostat.serving.guard.guard import Guard
from heliostat.serving.ports import listening_socket
from heliostat.serving.retrieval.config import RetrievalConfig
from heliostat.serving.retrieval.store import Collections
from heliostat.serving.text_embedder import TextEmbedder
from heliostat.storage import Storage

APP = "echo"
CAPACITY = 10_000


@dataclass(frozen=True)
class EchoSpec:
    """What is served where. `piece_tokens` None says all at once; else there is a pause between pieces."""

    name: str
    tokenizer: str
    embedder: str
    workspace: str
    port: int
    num_gateways: int = 1
    kept_answers: int = 1000
    collections: bool = False
    blocked_word: str | None = None
    over_channel: bool = False
    piece_tokens: int | None = None
    pause_seconds: float = 0.0
    counts: bool = False


class EchoEngine:
    """Answers a prompt with its own tokens, over and over."""

    capabilities = Capabilities()
    max_context_tokens = 8192

    def __init__(self, piece_tokens: int | None = None, pause_seconds: float = 0.0) -> None:
        self._num_tokens = 0
        self._piece_tokens = piece_tokens
        self._pause_seconds = pause_seconds

    async def generate(
        self,
        prompt_ids: Sequence[int],
        parameters: SamplingParameters,
        request_id: str,
        adapter: str | None = None,
    ) -> AsyncGenerator[TokenDelta]:
        """Deltas of `piece_tokens`, or all in one."""
        count = parameters.max_tokens
        size = self._piece_tokens or count
        for start in range(0, count, size):
            await asyncio.sleep(self._pause_seconds)
            end = min(count, start + size)
            self._num_tokens += end - start
            ids = tuple(prompt_ids[at % len(prompt_ids)] for at in range(start, end))
            yield TokenDelta(ids, "length" if end == count else None)

    async def embed(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Refused."""
        raise ServingError("the echo has no states")

    async def check_health(self) -> None:
        """Always well."""

    async def abort(self, request_id: str) -> None:
        """Whoever leaves closes its generator."""

    async def load_adapter(self, name: str, folder: str) -> None:
        """Refused."""
        raise ServingError("the echo takes no adapters")

    async def unload_adapter(self, name: str) -> None:
        """Nothing to let go of."""

    def stats(self) -> EngineStats:
        """Tokens since its start."""
        return EngineStats(0, self._num_tokens, self._num_tokens)

    async def close(self) -> None:
        """Nothing to let go of."""


class OneModel:
    """All there is: the echo, behind the rules that come with Heliostat."""

    def __init__(self, spec: EchoSpec, engine: Any) -> None:
        self.names = (spec.name,)
        self._guard = Guard.build(_guard_config(spec))
        self._model = ServedModel(
            id=spec.name,
            created=int(time.time()),
            tokenizer=load_tokenizer(Path(spec.tokenizer)),
            engine=engine,
            max_context_tokens=EchoEngine.max_context_tokens,
            max_output_tokens=4096,
            default_max_tokens=512,
        )

    def choose(self, name: str, session: str | None) -> Chosen:
        """The echo, under whatever name."""
        return Chosen(self._model, "v1", guard=self._guard)


def _guard_config(spec: EchoSpec) -> GuardConfig:
    usual = GuardConfig()
    if spec.blocked_word is None:
        return usual
    rule = WordsRule(id="blocked", on="input", action="block", words=(spec.blocked_word,))
    return usual.model_copy(update={"rules": (*usual.rules, rule)})


async def _over_channel(engine: EchoEngine) -> Any:
    """The engine as a gateway has it: at the other end of a socket."""
    channel = await ChannelServer.start(engine, "secret", CAPACITY)
    fleet = Fleet("secret", wake=lambda _: asyncio.sleep(0))
    limit = EchoEngine.max_context_tokens
    replica = Replica(APP, APP, "127.0.0.1", channel.port, CAPACITY, engine.capabilities, limit)
    await fleet.update(Snapshot(1, replicas=(replica,)))
    return fleet.engine(APP)


async def serve(spec: EchoSpec) -> None:
    """Until terminated."""
    exact = ExactCacheConfig(max_entries=spec.kept_answers)
    semantic = SemanticCacheConfig(enabled=True, max_entries=spec.kept_answers)
    cache = CacheConfig(exact=exact, semantic=semantic)
    retrieval = RetrievalConfig() if spec.collections else None
    config = ServeConfig(guard=_guard_config(spec), cache=cache, retrieval=retrieval)
    storage = Storage.at(spec.workspace)
    engine = EchoEngine(spec.piece_tokens, spec.pause_seconds)
    embed = await TextEmbedder.load(Path(spec.embedder))
    services = Services(
        Doormen.of(config.access, loopback_only=True, storage=storage),
        answers=KeptAnswers(ResponseCache(cache, embed)),
        collections=Collections(storage, retrieval, embed, "embedder") if retrieval else None,
    )
    models = OneModel(spec, await _over_channel(engine) if spec.over_channel else engine)
    server = uvicorn.Server(server_config(build_gateway(models, config, services), config))
    watching = asyncio.create_task(services.doormen.access.watch())
    if spec.counts:
        loop = asyncio.get_running_loop()
        threading.Thread(target=_answer_counts, args=(loop, services), daemon=True).start()
    await server.serve(sockets=[listening_socket("127.0.0.1", spec.port)])
    watching.cancel()


def _answer_counts(loop: asyncio.AbstractEventLoop, services: Services) -> None:
    for _ in sys.stdin:
        held = asyncio.run_coroutine_threadsafe(_counts(services), loop).result()
        print(json.dumps(held), flush=True)


async def _counts(services: Services) -> dict[str, Any]:
    """What the process holds; the objects by their class, those of the garbage collector's only."""
    gc.collect()
    kinds = Counter(type(each) for each in gc.get_objects())
    process = psutil.Process()
    assert services.answers
    return {
        "bytes": process.memory_full_info().uss,
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "tasks": Counter(str(task.get_coro()).split()[2] for task in asyncio.all_tasks()),
        "objects": {f"{kind.__module__}.{kind.__qualname__}": count for kind, count in kinds.items()},
        "series": len(services.metrics.exposition().splitlines()),
        "kept": services.answers.cache.num_entries,
    }


def main() -> None:
    """Serve until terminated."""
    spec = EchoSpec(**json.loads(sys.argv[1]))
    others = []
    if spec.num_gateways > 1:
        rest = json.dumps(asdict(replace(spec, num_gateways=spec.num_gateways - 1)))
        others = [subprocess.Popen([sys.executable, "-m", "tests.serving.echo_gateway", rest])]
    try:
        asyncio.run(serve(spec))
    finally:
        for other in others:
            other.terminate()
            other.wait()


if __name__ == "__main__":
    main()
