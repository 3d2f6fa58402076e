"""The gateway with nothing behind it: an engine that has its tokens at once, so that what is left is ours."""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from tests.bench.serving_inputs import Models, bench_workspace
from tests.bench.serving_processes import free_port, served
from tests.bench.serving_sides import MODEL_NAME, HttpSide, Target
from tests.serving.echo_gateway import EchoSpec

from heliostat.models.embedding import import_embedder
from heliostat.serving.access.config import Limits
from heliostat.serving.access.key_records import KeyScope
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.cache.config import CacheConfig
from heliostat.storage import Storage, artifact_folder

AMPLE = Limits(requests_per_minute=10_000_000, tokens_per_minute=1_000_000_000, concurrency=10_000)


@contextmanager
def serve_echo(models: Models, log: Path, num_gateways: int = 1) -> Iterator[HttpSide]:
    """The gateway as it is deployed, in so many processes that share a port, in front of an echo.

    For the parts `gateway` and `cache` it has to have everything a request passes on its way: keys (the
    target's headers hold one that is accepted), rate limits (switched on, too high to be met), the guard with
    its default rules on requests and answers, the audit log, and the cache, exact and semantic, which says in
    `CACHE_HEADER` of an answer where that came from.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        key, _ = KeyStore(Storage.at(folder)).create(KeyScope(name="bench", tenant="bench", limits=AMPLE))
        embedder = artifact_folder(import_embedder(CacheConfig().semantic.embedder, bench_workspace()))
        original = str(models.original_folder)
        spec = EchoSpec(MODEL_NAME, original, str(embedder), folder, port, num_gateways)
        command = [sys.executable, "-m", "tests.serving.echo_gateway", json.dumps(asdict(spec))]
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
