"""The gateway behind real sockets, served as the edge serves it, with keys; and raw bytes to it."""

import asyncio
import contextlib
import socket
import threading
import time
from dataclasses import dataclass

import httpx
import uvicorn
from starlette.routing import Route
from tests.serving.in_process import FixedModels
from tests.serving.over_http import written
from tests.serving.scripted import ScriptedEngine, served_by

from heliostat.serving.access.config import AccessConfig
from heliostat.serving.access.key_records import KeyScope
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.cache.config import CacheConfig
from heliostat.serving.cache.response_cache import ResponseCache
from heliostat.serving.config import ServeConfig
from heliostat.serving.gateway.app import build_gateway
from heliostat.serving.gateway.http_server import server_config
from heliostat.serving.gateway.kept_answers import KeptAnswers
from heliostat.serving.gateway.services import Doormen, Services
from heliostat.serving.gateway.shell import Shell
from heliostat.serving.guard.review_queue import ReviewQueue
from heliostat.serving.ports import listening_socket
from heliostat.storage import Storage

QUESTION = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0}
CHAT = "/v1/chat/completions"


@contextlib.contextmanager
def listening(application, config: ServeConfig):
    """The port of a server of the application, in a thread of its own."""
    shared = listening_socket("127.0.0.1", 0)
    server = uvicorn.Server(server_config(application, config))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[shared])))
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield shared.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@dataclass
class Gateway:
    """A gateway that answers, and what it was made from."""

    port: int
    keys: KeyStore
    services: Services
    engine: ScriptedEngine
    application: Shell

    @property
    def routes(self) -> list[Route]:
        """What is mounted."""
        return self.application._application.routes

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def key(self, name: str = "one", tenant: str = "acme", **scope) -> str:
        """A key that the gateway knows from now on."""
        made, _ = self.keys.create(KeyScope(name=name, tenant=tenant, **scope))
        self.services.doormen.access.refresh()
        return made

    def client(self, key: str | None = None, source: str | None = None, **options) -> httpx.Client:
        """A client with a key, from an address of this machine's."""
        headers = options.pop("headers", {}) | ({"authorization": f"Bearer {key}"} if key else {})
        transport = httpx.HTTPTransport(local_address=source)
        return httpx.Client(base_url=self.url, headers=headers, transport=transport, timeout=30, **options)

    def audit(self, count: int) -> list[dict]:
        """The lines of the audit log, which is closed once it has so many."""
        return asyncio.run(written(self.services.doormen.audit, count))

    def raw(self, *pieces: bytes, seconds: float = 5, pause: float = 0) -> bytes:
        """What comes back for these bytes until the server closes, or has been silent for so long."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(pause)
            return read_all(connection)


def answers(data: bytes) -> list[tuple[int, bytes]]:
    """Status and body of each answer in what a server sent."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        lines = [line.partition(b":") for line in head.split(b"\r\n")[1:]]
        length = next(int(value) for name, _, value in lines if name.lower() == b"content-length")
        found.append((int(head.split(b" ", 2)[1]), data[:length]))
        data = data[length:]
    return found


def read_all(connection: socket.socket) -> bytes:
    """All that comes until the other side closes or is silent for the connection's timeout."""
    got = bytearray()
    with contextlib.suppress(TimeoutError, ConnectionError):
        while part := connection.recv(65536):
            got += part
    return bytes(got)


@contextlib.contextmanager
def gateway_of(
    root,
    tokenizer,
    access: AccessConfig | None = None,
    config: ServeConfig | None = None,
    models=None,
    **services,
):
    """A gateway with keys, audit log, cache and review queue in a folder; a scripted engine answers."""
    storage = Storage(str(root))
    keys = KeyStore(storage)
    keys.create(KeyScope(name="first", tenant="first"))
    engine = ScriptedEngine(tokenizer, ["Fine."])
    doormen = Doormen.of(access or AccessConfig(), loopback_only=False, storage=storage)
    answers = KeptAnswers(ResponseCache(CacheConfig()))
    all_services = Services(doormen, **{"answers": answers, "reviews": ReviewQueue(storage)} | services)
    config = config or ServeConfig()
    application = build_gateway(models or FixedModels(served_by(engine)), config, all_services)
    with listening(application, config) as port:
        yield Gateway(port, keys, all_services, engine, application)
    doormen.audit.close()


def refused(response: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal in OpenAI's form."""
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert isinstance(error["code"], str)
    return response.status_code, error["code"]
