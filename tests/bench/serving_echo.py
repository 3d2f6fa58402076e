"""The gateway with nothing behind it: an engine that has its tokens at once, so that what is left is ours.

python -m tests.bench.serving_echo MODEL_FOLDER PORT NUM_GATEWAYS WORKSPACE EMBEDDER_FOLDER
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from tests.bench.serving_inputs import Models, bench_workspace
from tests.bench.serving_processes import free_port, served
from tests.bench.serving_sides import MODEL_NAME, HttpSide, Target

from heliostat.errors import ServingError
from heliostat.models.embedding import import_embedder
from heliostat.models.loading import load_tokenizer
from heliostat.serving.access.config import Limits
from heliostat.serving.access.key_records import KeyScope
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.api.answering import ServedModel
from heliostat.serving.cache.config import CacheConfig, SemanticCacheConfig
from heliostat.serving.cache.response_cache import ResponseCache
from heliostat.serving.config import ServeConfig
from heliostat.serving.engines.interface import Capabilities, EngineStats, SamplingParameters, TokenDelta
from heliostat.serving.gateway.app import build_gateway
from heliostat.serving.gateway.choosing import Chosen
from heliostat.serving.gateway.kept_answers import KeptAnswers
from heliostat.serving.gateway.services import Doormen, Services
from heliostat.serving.guard.config import GuardConfig
from heliostat.serving.guard.guard import Guard
from heliostat.serving.ports import listening_socket
from heliostat.serving.text_embedder import TextEmbedder
from heliostat.storage import Storage, artifact_folder

AMPLE = Limits(requests_per_minute=10_000_000, tokens_per_minute=1_000_000_000, concurrency=10_000)


class EchoEngine:
    """Answers a prompt with its own tokens, over and over, all in one delta."""

    capabilities = Capabilities()
    max_context_tokens = 8192

    def __init__(self) -> None:
        self._num_tokens = 0

    async def generate(
        self,
        prompt_ids: Sequence[int],
        parameters: SamplingParameters,
        request_id: str,
        adapter: str | None = None,
    ) -> AsyncGenerator[TokenDelta]:
        """One delta, the last."""
        await asyncio.sleep(0)
        count = parameters.max_tokens
        self._num_tokens += count
        ids = tuple(prompt_ids[at % len(prompt_ids)] for at in range(count))
        yield TokenDelta(ids, "length")

    async def embed(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Refused."""
        raise ServingError("the echo has no states")

    async def check_health(self) -> None:
        """Always well."""

    async def abort(self, request_id: str) -> None:
        """Nothing goes on."""

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


@contextmanager
def serve_echo(models: Models, log: Path, num_gateways: int = 1) -> Iterator[HttpSide]:
    """The gateway as it is deployed, in so many processes that share a port, in front of an `EchoEngine`.

    For the parts `gateway` and `cache` it has to have everything a request passes on its way: keys (the
    target's headers hold one that is accepted), rate limits (switched on, too high to be met), the guard with
    its default rules on requests and answers, the audit log, and the cache, exact and semantic, which says in
    `CACHE_HEADER` of an answer where that came from.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        key, _ = KeyStore(Storage.at(folder)).create(KeyScope(name="bench", tenant="bench", limits=AMPLE))
        embedder = artifact_folder(import_embedder(CacheConfig().semantic.embedder, bench_workspace()))
        command = [sys.executable, "-m", "tests.bench.serving_echo", str(models.original_folder), str(port)]
        command += [str(num_gateways), folder, str(embedder)]
        with served(command, port, "/healthz", log) as process:
            # It knows no end token that it could ignore.
            target = Target(
                "127.0.0.1",
                port,
                "/v1/chat/completions",
                headers={"Authorization": f"Bearer {key}"},
                extra={"ignore_eos": False},
            )
            yield HttpSide(target, process.pid)


class OneModel:
    """All there is: the echo."""

    names = (MODEL_NAME,)

    def __init__(self, folder: Path) -> None:
        self._guard = Guard.build(GuardConfig())
        self._model = ServedModel(
            id=MODEL_NAME,
            created=int(time.time()),
            tokenizer=load_tokenizer(folder),
            engine=EchoEngine(),
            max_context_tokens=EchoEngine.max_context_tokens,
            max_output_tokens=4096,
            default_max_tokens=512,
        )

    def choose(self, name: str, session: str | None) -> Chosen:
        """The echo, with the rules that come with Heliostat."""
        return Chosen(self._model, "v1", guard=self._guard)


async def serve(folder: Path, port: int, storage: Storage, embedder: Path) -> None:
    """Until terminated."""
    cache = CacheConfig(semantic=SemanticCacheConfig(enabled=True))
    config = ServeConfig(guard=GuardConfig(), cache=cache)
    doormen = Doormen.of(config.access, loopback_only=True, storage=storage)
    answers = KeptAnswers(ResponseCache(cache, await TextEmbedder.load(embedder)))
    application = build_gateway(OneModel(folder), config, Services(doormen, answers=answers))
    options = uvicorn.Config(application, log_level="warning", access_log=False)
    await uvicorn.Server(options).serve(sockets=[listening_socket("127.0.0.1", port)])


def main() -> None:
    """Serve until terminated."""
    folder, port, num_gateways, workspace, embedder = sys.argv[1:]
    others = []
    if int(num_gateways) > 1:
        rest = [folder, port, str(int(num_gateways) - 1), workspace, embedder]
        others = [subprocess.Popen([sys.executable, "-m", "tests.bench.serving_echo", *rest])]
    try:
        asyncio.run(serve(Path(folder), int(port), Storage.at(workspace), Path(embedder)))
    finally:
        for other in others:
            other.terminate()
            other.wait()


if __name__ == "__main__":
    main()
