"""The load: a process that sends requests over so many connections, and times what comes back.

    python serving_load.py < load.json

Standard library only, and as little work a token as can be: what it takes, it takes from the servers it
measures, from all of them the same. Reads a `Load` as JSON; writes `{"samples": [...], "cpu_seconds": x}`.
"""

import asyncio
import json
import resource
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

LIMIT_BYTES = 1 << 24
ERROR_CHARACTERS = 300


@dataclass(frozen=True)
class Load:
    """Requests to one server: each stream sends the next of `bodies` when its last is answered.

    A body None is sent as a GET of its path. `paths` has one entry for all, or one a body.
    """

    host: str
    port: int
    paths: list[str]
    bodies: list[dict[str, Any] | None]
    streams: int
    headers: dict[str, str] = field(default_factory=dict)
    noted: str = ""
    """A header of the answers to keep the value of."""
    timeout_seconds: float = 600


@dataclass(frozen=True)
class Sample:
    """One request: when it was sent, when the first text and the last byte came (seconds on one clock, of all
    processes of the machine), and the tokens that the answer's usage counts; `error` says what went wrong."""

    sent: float
    first: float
    ended: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
    status: int = 0
    error: str = ""
    noted: str = ""


class StreamError(ValueError):
    """A stream said that it cannot go on."""


class Events:
    """Server-sent events out of pieces of a body: feed bytes, get the data of each event that is whole."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that end in this piece; an event's several data lines are joined."""
        *whole, self._rest = (self._rest + piece).replace(b"\r\n", b"\n").split(b"\n\n")
        found = []
        for event in whole:
            lines = [line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:")]
            if lines:
                found.append(b"\n".join(lines))
        return found


def text_in(chunk: Mapping[str, Any]) -> bool:
    """Whether a chunk of a stream, or an answer, has text of the model: of a chat or of a completion."""
    for choice in chunk.get("choices") or ():
        said = choice.get("delta") or choice.get("message") or {}
        if choice.get("text") or said.get("content"):
            return True
    return bool(chunk.get("text"))


async def run_load(load: Load) -> list[Sample]:
    """All requests, over `streams` connections that stay open."""
    paths = load.paths if len(load.paths) > 1 else load.paths * len(load.bodies)
    waiting = deque(
        request_bytes(path, body, load.headers) for path, body in zip(paths, load.bodies, strict=True)
    )
    streams = (_stream(load, waiting) for _ in range(load.streams))
    return [sample for samples in await asyncio.gather(*streams) for sample in samples]


async def _stream(load: Load, waiting: deque[bytes]) -> list[Sample]:
    samples: list[Sample] = []
    connection = Connection(load.host, load.port, load.noted.lower())
    while waiting:
        message = waiting.popleft()
        sent = time.monotonic()
        try:
            async with asyncio.timeout(load.timeout_seconds):
                samples.append(await connection.ask(message, sent))
        except (OSError, EOFError, ValueError, LookupError) as error:
            connection.close()
            now = time.monotonic()
            reason = f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS]
            samples.append(Sample(sent, now, now, error=reason))
    connection.close()
    return samples


class Connection:
    """One connection, opened when it is needed and kept as long as the server keeps it."""

    def __init__(self, host: str, port: int, noted: str) -> None:
        self._place = host, port
        self._noted = noted
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, message: bytes, sent: float) -> Sample:
        """Send a request and read its answer. A kept connection that turns out to be closed is no failure."""
        kept = self._open is not None
        try:
            head = await self._head(message)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            if not kept or getattr(error, "partial", b""):
                raise
            self.close()
            head = await self._head(message)
        assert self._open
        status, headers = parse_head(head)
        sample = await _answer(self._open[0], status, headers, sent)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return replace(sample, noted=headers[self._noted]) if self._noted in headers else sample

    def close(self) -> None:
        """Let go; the next request opens another."""
        if self._open:
            self._open[1].close()
        self._open = None

    async def _head(self, message: bytes) -> bytes:
        if self._open is None:
            self._open = await asyncio.open_connection(*self._place, limit=LIMIT_BYTES)
        reader, writer = self._open
        writer.write(message)
        return await reader.readuntil(b"\r\n\r\n")


def request_bytes(path: str, body: dict[str, Any] | bytes | None, headers: Mapping[str, str]) -> bytes:
    """A request as it goes over the wire; one without a body is a GET."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [
        f"{'GET' if body is None else 'POST'} {path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {len(content)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


async def _answer(
    reader: asyncio.StreamReader, status: int, headers: Mapping[str, str], sent: float
) -> Sample:
    pieces = _body(reader, headers)
    if "text/event-stream" in headers.get("content-type", ""):
        return await _streamed(pieces, sent, status)
    content = b"".join([piece async for piece in pieces])
    ended = time.monotonic()
    if status != 200:
        error = content.decode(errors="replace")[:ERROR_CHARACTERS] or "no reason"
        return Sample(sent, ended, ended, status=status, error=f"{status}: {error}")
    usage = json.loads(content).get("usage") or {}
    return Sample(sent, ended, ended, *_counts(usage), status=status)


async def _streamed(pieces: AsyncIterator[bytes], sent: float, status: int) -> Sample:
    events, first, usage, done = Events(), 0.0, {}, False
    async for piece in pieces:
        for data in events.feed(piece):
            if data == b"[DONE]":
                done = True
                continue
            if first and not _matters(data):
                continue
            chunk = json.loads(data)
            if "error" in chunk:
                raise StreamError(f"an error in the stream: {chunk['error']}")
            if not first and text_in(chunk):
                first = time.monotonic()
            usage = chunk.get("usage") or usage
    ended = time.monotonic()
    if not done:
        raise EOFError("the stream ended without [DONE]")
    return Sample(sent, first or ended, ended, *_counts(usage), status=status)


def _matters(data: bytes) -> bool:
    """Whether a chunk behind the first text can say anything that is kept."""
    return b"_tokens" in data or b"error" in data


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers, their names in lower case.

    Raises:
        ValueError: it is not HTTP.
    """
    first, *lines = head.decode("latin-1").split("\r\n")
    _, status, *_ = first.split(" ")
    pairs = (line.partition(":") for line in lines if line)
    return int(status), {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> AsyncGenerator[bytes]:
    """Pieces of the body, as they come."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readline()).split(b";")[0], 16):
            yield (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    elif "content-length" in headers:
        yield await reader.readexactly(int(headers["content-length"]))
    else:
        while piece := await reader.read(1 << 16):
            yield piece


def _counts(usage: Mapping[str, Any]) -> tuple[int, int]:
    return int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)


def main() -> None:
    """Send what standard input says."""
    samples = asyncio.run(run_load(Load(**json.load(sys.stdin))))
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {"samples": [asdict(sample) for sample in samples], "cpu_seconds": used.ru_utime + used.ru_stime}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
