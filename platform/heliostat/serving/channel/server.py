"""An engine's end of the channel: takes requests of gateways that know the secret, streams tokens back."""

import asyncio
import contextlib
import hmac
import logging
import time
from collections import deque
from typing import Any

import orjson

from heliostat.endpoints import ServedAdapter
from heliostat.errors import ServingError
from heliostat.serving.channel.messages import LINE_LIMIT_BYTES, Why, from_delta, line, to_parameters
from heliostat.serving.channel.own_log import own_log
from heliostat.serving.engines.adapter_pool import AdapterPool
from heliostat.serving.engines.interface import Engine

HELLO_TIMEOUT_SECONDS = 10.0
DRAIN_POLL_SECONDS = 0.02
FIRST_TOKENS_KEPT = 256
LATELY_SECONDS = 15.0
logger = logging.getLogger(__name__)


class ChannelServer:
    """An engine that answers on a socket; made by `start`."""

    def __init__(self, engine: Engine, adapters: AdapterPool, secret: str, max_ongoing_requests: int) -> None:
        self.engine = engine
        self.adapters = adapters
        self._secret = secret
        self._max_ongoing_requests = max_ongoing_requests
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server
        self._first_tokens: deque[tuple[float, float]] = deque(maxlen=FIRST_TOKENS_KEPT)
        self.draining = False
        self.num_requests = 0

    @classmethod
    async def start(
        cls,
        engine: Engine,
        secret: str,
        max_ongoing_requests: int,
        host: str = "127.0.0.1",
        adapters: AdapterPool | None = None,
    ) -> "ChannelServer":
        """Listen on a free port of `host`; more than `max_ongoing_requests` at once are sent elsewhere."""
        server = cls(engine, adapters or AdapterPool(engine), secret, max_ongoing_requests)
        server._server = await asyncio.start_server(server._serve, host, 0, limit=LINE_LIMIT_BYTES)
        return server

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.sockets[0].getsockname()[1])

    def first_token_seconds(self) -> float:
        """How long first tokens took lately, in the mean; 0 where none came."""
        since = time.monotonic() - LATELY_SECONDS
        lately = [took for at, took in self._first_tokens if at > since]
        return sum(lately) / len(lately) if lately else 0.0

    def note_first_token(self, took_seconds: float) -> None:
        """A request has its first token."""
        self._first_tokens.append((time.monotonic(), took_seconds))

    async def drain(self, timeout_seconds: float) -> bool:
        """Begin nothing new, and wait for what goes on; False when some were still going on at the end."""
        self.draining = True
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while self.num_requests and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(DRAIN_POLL_SECONDS)
        return not self.num_requests

    async def close(self) -> None:
        """Hang up; requests under way end with an error at their gateways."""
        self._server.close()
        for connection in list(self._connections):
            connection.hang_up()

    def why_not(self) -> tuple[str, Why] | None:
        """Why a new request is to go elsewhere, or None."""
        if self.draining:
            return "this replica is being stopped", "lost"
        if self.num_requests >= self._max_ongoing_requests:
            return f"this replica has {self.num_requests} requests, as many as it takes", "full"
        return None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, writer)
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_SECONDS):
                hello = orjson.loads(await reader.readline() or b"null")
            if not _knows(hello, self._secret):
                logger.warning("a caller without the secret was turned away")
                return
            self._connections.add(connection)
            while received := await reader.readline():
                connection.receive(orjson.loads(received))
        except (
            ConnectionError,
            TimeoutError,
            ValueError,
        ) as error:  # ValueError: not JSON, or too long a line
            logger.info("a gateway's connection ended: %s", error)
        finally:
            self._connections.discard(connection)
            await connection.end()


def _knows(hello: Any, secret: str) -> bool:
    given = hello.get("hello") if isinstance(hello, dict) else None
    return isinstance(given, str) and hmac.compare_digest(given.encode(), secret.encode())


class _Connection:
    """One gateway's requests. What is said within one turn of the event loop leaves in one write."""

    def __init__(self, server: ChannelServer, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._engine = server.engine
        self._writer = writer
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._tokens: list[Any] = []

    def receive(self, message: dict[str, Any]) -> None:
        """Act on one message."""
        if "add" in message:
            self._begin(message["add"], self._generate(message))
        elif "embed" in message:
            self._begin(message["embed"], self._embed(message))
        elif "logs" in message:
            request_id, num_lines = message["logs"]
            self._say({"said": [request_id, own_log(num_lines)]})
        elif task := self._tasks.get(message["abort"]):
            task.cancel()

    def _begin(self, request_id: str, work: Any) -> None:
        refusal = self._server.why_not()
        if refusal:
            work.close()
            self._say({"refused": [request_id, *refusal]})
            return
        self._server.num_requests += 1
        task = self._tasks[request_id] = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._ended(request_id))

    def _ended(self, request_id: str) -> None:
        self._server.num_requests -= 1
        self._tasks.pop(request_id, None)

    async def _generate(self, message: dict[str, Any]) -> None:
        request_id, wanted, began = message["add"], message["adapter"], time.monotonic()
        try:
            if wanted is None:
                finished = await self._answer(message, None, began)
            else:
                async with self._server.adapters.using(ServedAdapter(**wanted)) as adapter:
                    finished = await self._answer(message, adapter, began)
        except ServingError as error:
            await self._refuse(request_id, str(error))
        else:
            if not finished:
                await self._refuse(request_id, "the engine ended the answer early; send the request again")

    async def _answer(self, message: dict[str, Any], adapter: str | None, began: float) -> bool:
        """Send what the engine generates; whether it came to an end."""
        request_id, waiting = message["add"], True
        parameters = to_parameters(message["parameters"])
        deltas = self._engine.generate(message["prompt_ids"], parameters, request_id, adapter)
        async with contextlib.aclosing(deltas):
            async for delta in deltas:
                if waiting:
                    self._server.note_first_token(time.monotonic() - began)
                    waiting = False
                self._say_tokens(from_delta(request_id, delta))
                if delta.finish_reason:
                    return True
        return False

    async def _embed(self, message: dict[str, Any]) -> None:
        try:
            vectors = await self._engine.embed(message["prompts"])
        except ServingError as error:
            await self._refuse(message["embed"], str(error))
        else:
            self._say({"vectors": [message["embed"], vectors]})

    async def _refuse(self, request_id: str, reason: str) -> None:
        """An engine that is lost sends its requests elsewhere; one that is well refuses this one."""
        try:
            await self._engine.check_health()
        except ServingError:
            self._say({"refused": [request_id, reason, "lost"]})
        else:
            self._say({"refused": [request_id, reason, "fault"]})

    def _say_tokens(self, entry: list[Any]) -> None:
        if not self._tokens:
            asyncio.get_running_loop().call_soon(self._flush)
        self._tokens.append(entry)

    def _flush(self) -> None:
        tokens, self._tokens = self._tokens, []
        if tokens and not self._writer.is_closing():
            self._writer.write(line({"tokens": tokens}))

    def _say(self, message: dict[str, Any]) -> None:
        self._flush()  # a refusal comes behind the tokens of its request
        if not self._writer.is_closing():
            self._writer.write(line(message))

    def hang_up(self) -> None:
        """Close from this end."""
        self._flush()
        self._writer.close()

    async def end(self) -> None:
        """The gateway has gone: free the slots of its requests."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._writer.close()
