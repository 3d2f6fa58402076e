"""A conversation with an endpoint, streamed: text as it comes, how fast it came, and an end at any time.

Knows nothing of who shows it. Closing an answer closes its connection, and the gateway then ends the request.
"""

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx
from pydantic import Field

from heliostat.control.gateway_key import WHERE_IT_BELONGS, GatewayKey
from heliostat.control.serving import message_of
from heliostat.errors import ConfigError, ServingError
from heliostat.records import Record

MOST_SIDE_BY_SIDE = 3
CONNECT_TIMEOUT_SECONDS = 5.0
SILENCE_TIMEOUT_SECONDS = 120.0
VERSION_HEADER = "x-heliostat-version"
EVENT = "data: "
END = "[DONE]"


class Sampling(Record):
    """How tokens are chosen; None leaves it to the endpoint."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = None


class Asked(Record):
    """One model and what it is asked: `messages` are OpenAI's, the system prompt first."""

    base_url: str
    model: str
    messages: tuple[dict[str, str], ...]
    sampling: Sampling = Sampling()


class Speed(Record):
    """How an answer came. Tokens a second are of those behind the first; None where the endpoint does not
    tell how many there were."""

    first_token_seconds: float | None = None
    tokens_per_second: float | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str = ""
    """stop, length, ...; empty where the answer was stopped here."""
    version: str = ""


class Answer:
    """An answer on its way: iterate for its text, once; `close` ends it early, from any thread."""

    def __init__(self, asked: Asked, key: GatewayKey | None = None) -> None:
        """Nothing is sent before iteration begins."""
        self.asked = asked
        self.speed = Speed()
        self.text = ""
        self._key = key
        self._closed = threading.Event()
        self.over = False
        """Whether it came to its own end, or failed."""
        self._connection: socket.socket | None = None

    def __iter__(self) -> Iterator[str]:
        """Pieces of the answer as they come; `speed` is whole when they have ended, however they ended.

        Raises:
            ServingError: the endpoint does not answer, refuses, or fails on the way; one line.
        """
        started = time.monotonic()
        try:
            yield from self._pieces(started)
            self.over = not self.closed
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            if not self.closed:
                self.over = True
                raise ServingError(
                    f"{self.asked.base_url}: no answer: {str(error) or type(error).__name__}"
                ) from None

    def close(self) -> None:
        """End it: nothing more comes, and the gateway ends the request. Whoever waits for a piece wakes."""
        self._closed.set()
        self._hang_up()

    def _hang_up(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):  # it has ended meanwhile
                self._connection.shutdown(socket.SHUT_RDWR)

    @property
    def closed(self) -> bool:
        """Whether it was ended early."""
        return self._closed.is_set()

    def _pieces(self, started: float) -> Iterator[str]:
        timeout = httpx.Timeout(SILENCE_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
        with (
            httpx.Client(timeout=timeout, headers=self._headers) as client,
            client.stream(
                "POST",
                f"{self.asked.base_url}/chat/completions",
                json=self._body,
                extensions={"trace": self._trace},
            ) as response,
        ):
            if response.is_error:
                response.read()
                raise ServingError(f"{self.asked.model}: {_refusal(response)}")
            self._note(version=response.headers.get(VERSION_HEADER, ""))
            yield from self._texts(response, started)

    def _trace(self, event: str, told: dict[str, Any]) -> None:
        """Keep the socket as soon as there is one: an answer may be closed while it is waited for."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._connection = told["return_value"].get_extra_info("socket")
            if self.closed:
                self._hang_up()

    def _texts(self, response: httpx.Response, started: float) -> Iterator[str]:
        first_at: float | None = None
        last_at = started
        for event in _events(response):
            if self.closed:
                return
            if said := message_of(event):
                raise ServingError(f"{self.asked.model}: {said}")
            if text := self._take(event):
                last_at = time.monotonic()
                if first_at is None:
                    first_at = last_at
                    self._note(first_token_seconds=first_at - started)
                self.text += text
                yield text
        tokens = self.speed.completion_tokens or 0
        if first_at is not None and tokens > 1:
            # a short answer may come in one piece, with nothing between its first token and its last
            rate = (tokens - 1) / (last_at - first_at) if last_at > first_at else tokens / (last_at - started)
            self._note(tokens_per_second=rate)

    def _take(self, event: dict[str, Any]) -> str:
        """One event's text; its other news are noted."""
        usage = event.get("usage") or {}
        if usage:
            self._note(
                prompt_tokens=usage.get("prompt_tokens"), completion_tokens=usage.get("completion_tokens")
            )
        choices = event.get("choices") or [{}]
        if reason := choices[0].get("finish_reason"):
            self._note(finish_reason=str(reason))
        return str((choices[0].get("delta") or {}).get("content") or "")

    def _note(self, **news: Any) -> None:
        self.speed = self.speed.model_copy(update=news)

    @property
    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._key.value}"} if self._key else {}

    @property
    def _body(self) -> dict[str, Any]:
        return {
            "model": self.asked.model,
            "messages": list(self.asked.messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            **self.asked.sampling.model_dump(exclude_none=True),
        }


class Piece(NamedTuple):
    """News of one of several answers, by its place: text, or how it ended."""

    place: int
    text: str = ""
    ended: bool = False
    error: str = ""


class SideBySide:
    """Up to three answers at the same time, as a context manager: leaving it ends those that go on."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        """Prepare to send them.

        Raises:
            ConfigError: there are none, or more than three.
        """
        if not 1 <= len(answers) <= MOST_SIDE_BY_SIDE:
            raise ConfigError(f"{len(answers)} models side by side: choose from 1 to {MOST_SIDE_BY_SIDE}")
        self.answers = tuple(answers)
        self._news: queue.SimpleQueue[Piece] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, args=(place, answer), daemon=True)
            for place, answer in enumerate(self.answers)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for answer in self.answers:
            answer.close()
        for thread in self._threads:
            thread.join(CONNECT_TIMEOUT_SECONDS)

    def pieces(self, patience_seconds: float = 0.2) -> Iterator[Piece | None]:
        """News as they come, until all answers have ended; None when there were none for a while, so that
        whoever shows them can look up."""
        going_on = len(self.answers)
        while going_on:
            try:
                piece = self._news.get(timeout=patience_seconds)
            except queue.Empty:
                yield None
                continue
            going_on -= piece.ended
            yield piece

    def _run(self, place: int, answer: Answer) -> None:
        said = ""
        try:
            for text in answer:
                self._news.put(Piece(place, text))
        except ServingError as error:
            said = str(error)
        finally:
            self._news.put(Piece(place, ended=True, error=said))


def _events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The decoded events of a stream, up to its end mark."""
    for line in response.iter_lines():
        if not line.startswith(EVENT):
            continue
        data = line.removeprefix(EVENT)
        if data == END:
            return
        try:
            event = json.loads(data)
        except ValueError:
            raise ServingError(f"{response.url}: sent what is no event") from None
        if isinstance(event, dict):
            yield event


def _refusal(response: httpx.Response) -> str:
    """Why it was refused, on one line."""
    try:
        said = message_of(response.json())
    except ValueError:
        said = ""
    said = said or f"HTTP {response.status_code}"
    wants_key = response.status_code in (401, 403)
    return f"{said}; put a key that opens chat into {WHERE_IT_BELONGS}" if wants_key else said
