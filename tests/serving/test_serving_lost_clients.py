"""Clients that are lost in the middle, and answers that take too long: what is done and written down."""

import asyncio
import json
import socket
import sys
import time
from contextlib import asynccontextmanager

import httpx
import pytest
from tests.serving.in_process import FixedModels
from tests.serving.over_http import listening, post_bytes, written
from tests.serving.scripted import prose_tokenizer, served_by
from tests.two_hosts import available, neighbour

from heliostat.serving.access.config import AccessConfig
from heliostat.serving.access.key_records import KeyScope
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.config import ServeConfig
from heliostat.serving.engines.interface import Capabilities, TokenDelta
from heliostat.serving.gateway.app import build_gateway
from heliostat.serving.gateway.services import Doormen, Services

pytestmark = pytest.mark.anyio
LOST_AFTER_SECONDS = 3
CLIENT = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as server:
    server.sendall(sys.stdin.buffer.read())
    print("asked", flush=True)
    while server.recv(1 << 16):
        pass
"""


class EndlessEngine:
    """A token every so often, for ever; embeddings take as long."""

    capabilities = Capabilities(embeddings=True)

    def __init__(self, tokenizer, pause_seconds: float) -> None:
        self.tokenizer = tokenizer
        self.at_work = 0
        self._word = tokenizer.encode("a", add_special_tokens=False)[0]
        self._pause_seconds = pause_seconds

    async def generate(self, prompt_ids, parameters, request_id, adapter=None):
        self.at_work += 1
        try:
            while True:
                await asyncio.sleep(self._pause_seconds)
                yield TokenDelta((self._word,))
        finally:
            self.at_work -= 1

    async def embed(self, prompts):
        self.at_work += 1
        try:
            await asyncio.sleep(3600)
        finally:
            self.at_work -= 1

    async def check_health(self) -> None:
        return None


class Server:
    """An endless engine behind HTTP, and what is written of the requests."""

    def __init__(self, engine: EndlessEngine, services: Services, port: int, key: str) -> None:
        self.engine = engine
        self.port = port
        self.key = key
        self._services = services

    async def settled(self, seconds: float, at_work: int = 0) -> None:
        """Until the engine has so many requests."""
        async with asyncio.timeout(seconds):
            while self.engine.at_work != at_work:
                await asyncio.sleep(0.005)

    async def written(self, count: int) -> list[dict]:
        """The audit log, closed once it has so many lines."""
        return await written(self._services.doormen.audit, count)


@asynccontextmanager
async def serving(folder, storage, config=None, host="127.0.0.1", pause_seconds=0.01):
    engine = EndlessEngine(prose_tokenizer(folder), pause_seconds)
    key, _ = KeyStore(storage).create(KeyScope(name="one", tenant="a"))
    services = Services(Doormen.of(AccessConfig(), loopback_only=True, storage=storage))
    config = config or ServeConfig(drain_timeout_seconds=1)
    application = build_gateway(FixedModels(served_by(engine)), config, services)
    async with listening(application, host, LOST_AFTER_SECONDS, config) as port:
        yield Server(engine, services, port, key)


def asked(stream: bool) -> dict:
    return {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}


async def test_a_client_that_leaves_in_its_own_request_is_no_fault_of_ours(tmp_path, workspace, caplog):
    async with serving(tmp_path, workspace.storage) as server:
        whole = post_bytes("/v1/chat/completions", asked(stream=True), server.key)
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(whole[:-10])
        await asyncio.sleep(0.1)
        writer.close()
        (line,) = await server.written(1)
        assert (line["status"], line.get("error"), line["milliseconds"] < 1000) == (499, None, True)
        assert caplog.records == []


async def test_a_client_that_leaves_while_texts_are_embedded_frees_the_engine(tmp_path, workspace):
    async with serving(tmp_path, workspace.storage) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(post_bytes("/v1/embeddings", {"model": "tiny", "input": "Hello"}, server.key))
        await server.settled(5, at_work=1)
        writer.close()
        await server.settled(5)
        (line,) = await server.written(1)
        assert line["status"] == 499


async def test_a_stream_that_takes_too_long_ends_with_an_error_and_is_written_down_as_one(
    tmp_path, workspace, caplog
):
    config = ServeConfig(drain_timeout_seconds=1, request_timeout_seconds=1.5)
    async with serving(tmp_path, workspace.storage, config) as server:
        client = httpx.AsyncClient(headers={"authorization": f"Bearer {server.key}"})
        url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
        response = await client.post(url, json=asked(stream=True))
        assert response.status_code == 200
        *_, last, rest = response.text.split("\n\n")
        assert rest == ""
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "timeout"
        assert server.engine.at_work == 0
        assert (await client.post(url, json=asked(stream=False))).status_code == 504
        await client.aclose()
        assert [line["status"] for line in await server.written(2)] == [504, 504]
        assert caplog.records == []


async def test_a_client_that_stops_reading_is_let_go_of(tmp_path, workspace):
    async with serving(tmp_path, workspace.storage, pause_seconds=0.001) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(post_bytes("/v1/chat/completions", asked(stream=True), server.key))
            await server.settled(5, at_work=1)
            stopped = time.monotonic()
            await server.settled(60)
            print(
                f"noticed after {time.monotonic() - stopped:.1f} s, {LOST_AFTER_SECONDS} behind full buffers"
            )
        (line,) = await server.written(1)
        assert line["status"] == 499


@pytest.mark.heavy
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_whose_cable_is_out_is_let_go_of_in_time(tmp_path, workspace, stream):
    if not available():
        pytest.fail("this test makes network namespaces: run it as root, with iproute2 installed")
    with neighbour() as (host, here):
        async with serving(tmp_path, workspace.storage, host=here) as server:
            command = ["ip", "netns", "exec", host.namespace, sys.executable, "-c", CLIENT, here]
            client = await asyncio.create_subprocess_exec(
                *command,
                str(server.port),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert client.stdin
            client.stdin.write(post_bytes("/v1/chat/completions", asked(stream), server.key))
            client.stdin.close()
            await server.settled(10, at_work=1)
            await asyncio.sleep(0.3)
            host.cut_off()
            lost = time.monotonic()
            await server.settled(6 * LOST_AFTER_SECONDS)
            print(f"noticed after {time.monotonic() - lost:.1f} s of at most {LOST_AFTER_SECONDS}")
            client.kill()
            await client.wait()
            (line,) = await server.written(1)
            assert line["status"] == 499
