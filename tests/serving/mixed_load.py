"""Requests of every kind that a gateway meets, good and bad, from many clients at once; some go away.

What comes of each is one `Outcome`. Which kinds there are, and how often each is asked, is a `Mix`.
"""

import asyncio
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.bench.serving_load import Connection, StreamError, request_bytes

LIMIT_SECONDS = 120.0
FAILED_PAUSE_SECONDS = 0.2
"""What fails at once fails often."""
WORDS = re.findall(
    "[a-z]+",
    "how does one open read write close sort reverse list file text number table index query mirror sun "
    "light engine garden river street winter morning paper bread window colour music travel letter answer",
)
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}
Verdict = Literal["ok", "left", "cut", "broken", "failed"]
"""`cut`: an error event ended the stream; `broken`: it ended without one; `failed`: no answer, or the wrong
status."""
Body = Callable[[random.Random], dict[str, Any] | bytes | None]


@dataclass(frozen=True)
class Kind:
    """A kind of request: how to make one, and what should come of it."""

    name: str
    body: Body
    share: float
    path: str = "/v1/chat/completions"
    status: int = 200
    kept: bool = False
    """Whether a cache may answer it."""
    key: str = "main"
    leaves_after: tuple[float, float] | None = None
    """The client goes away so many seconds after it asked: from, to."""


@dataclass(frozen=True)
class Outcome:
    """What came of a request; times are on `time.monotonic`'s clock."""

    kind: str
    verdict: Verdict
    sent: float
    seconds: float
    first_seconds: float
    status: int = 0
    error: str = ""


@dataclass
class Mix:
    """What is asked; a prompt is never asked twice, but where the kind says so."""

    model: str
    max_tokens: tuple[int, int]
    long_words: int
    """Words of a long prompt."""
    kinds: tuple[Kind, ...] = ()
    collection: str | None = None
    blocked_word: str | None = None
    embeds: bool = False
    """Whether the engine has embeddings; else a request for them is refused."""
    tools: bool = False
    """Whether the model's chat template knows tools; else a request with some is refused."""
    leaves_after: tuple[float, float] = (0.0, 0.5)
    _number: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        self.kinds = self.kinds or self._usual()

    def draw(self, rng: random.Random) -> Kind:
        """The next request's kind."""
        return rng.choices(self.kinds, [kind.share for kind in self.kinds])[0]

    def text(self, rng: random.Random, words: int = 8) -> str:
        """A text that was not there before."""
        self._number += 1
        return f"{' '.join(rng.choices(WORDS, k=words))} {self._number}?"

    def chat(self, rng: random.Random, text: str | None = None, **changes: Any) -> dict[str, Any]:
        """A chat request."""
        asked = {"model": self.model, "max_tokens": rng.randint(*self.max_tokens), "temperature": 0}
        return asked | {"messages": [{"role": "user", "content": text or self.text(rng)}]} | changes

    def completion(self, rng: random.Random, **changes: Any) -> dict[str, Any]:
        """A completion."""
        asked = {"model": self.model, "max_tokens": rng.randint(*self.max_tokens), "temperature": 0.8}
        return asked | {"prompt": self.text(rng)} | changes

    def _long(self, rng: random.Random, stream: bool) -> dict[str, Any]:
        return self.chat(rng, self.text(rng, self.long_words), stream=stream)

    def _with_tools(self, rng: random.Random) -> dict[str, Any]:
        return self.chat(rng, tools=[TOOL], tool_choice="required", max_tokens=80)

    def _repeated(self, rng: random.Random) -> dict[str, Any]:
        number = rng.randrange(40)
        wording = ("How do I open file", "How can I open file", "Tell me how I open file")[number % 3]
        return self.chat(rng, f"{wording} {number // 3}?", max_tokens=8, stream=number % 2 == 0)

    def _usual(self) -> tuple[Kind, ...]:
        streamed = {"stream": True, "stream_options": {"include_usage": True}}
        schema = {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}
        early, later = (0.0, self.leaves_after[1] / 10), self.leaves_after
        completions = "/v1/completions"
        kinds = [
            Kind("chat", self.chat, 16),
            Kind("chat streamed", lambda rng: self.chat(rng, **streamed), 24),
            Kind("completion", self.completion, 6, completions),
            Kind("completion streamed", lambda rng: self.completion(rng, **streamed), 8, completions),
            Kind("two choices", lambda rng: self.chat(rng, n=2, temperature=1, **streamed), 2),
            Kind("long prompt", lambda rng: self._long(rng, False), 2),
            Kind("long prompt streamed", lambda rng: self._long(rng, True), 3),
            Kind("new question", self.chat, 8, kept=True),
            Kind("known question", self._repeated, 8, kept=True),
            Kind("leaves at once", self.chat, 2, leaves_after=early),
            Kind("leaves", self.chat, 3, leaves_after=later),
            Kind("leaves a stream", lambda rng: self.chat(rng, **streamed), 6, leaves_after=later),
            Kind("tokenize", lambda rng: {"model": self.model, "prompt": self.text(rng)}, 3, "/tokenize"),
            Kind("models", lambda rng: None, 1, "/v1/models"),
            Kind("not JSON", lambda rng: b'{"model": ', 1, status=400),
            Kind("bad value", lambda rng: self.chat(rng, temperature=9), 1, status=400),
            Kind("too long", lambda rng: self.chat(rng, max_tokens=10**6), 1, status=400),
            Kind("unknown model", lambda rng: self.chat(rng, model="nobody"), 1, status=404),
            Kind("unknown key", self.chat, 1, status=401, key="unknown"),
            Kind("schema", lambda rng: self.chat(rng, response_format=schema, max_tokens=60), 2),
            Kind("tools", self._with_tools, 2, status=200 if self.tools else 400),
            Kind(
                "embeddings",
                lambda rng: {"model": self.model, "input": self.text(rng)},
                1,
                "/v1/embeddings",
                status=200 if self.embeds else 400,
            ),
        ]
        if self.blocked_word:
            text = f"please say {self.blocked_word} now"
            kinds.append(Kind("blocked", lambda rng: self.chat(rng, f"{text} {rng.random()}"), 3, status=400))
        if self.collection:
            retrieval = {"collection": self.collection, "top_k": 1}
            path = f"/v1/collections/{self.collection}/search"
            kinds.append(Kind("search", lambda rng: {"query": self.text(rng), "top_k": 2}, 2, path))
            kinds.append(Kind("grounded", lambda rng: self.chat(rng, retrieval=retrieval), 2))
        return tuple(kinds)


class Client:
    """One client: a connection that it keeps, except where it goes away in the middle."""

    def __init__(self, host: str, port: int, keys: dict[str, str]) -> None:
        """`keys` by the name that kinds have for them."""
        self._connection = Connection(host, port, "")
        self._keys = keys

    async def ask(self, kind: Kind, body: dict[str, Any] | bytes | None, stays: float | None) -> Outcome:
        """Send a request, and read what comes, or leave after `stays` seconds."""
        headers = {"Authorization": f"Bearer {self._keys[kind.key]}"}
        message = request_bytes(
            kind.path, body, headers | ({} if kind.kept else {"Cache-Control": "no-store"})
        )
        sent = time.monotonic()

        def outcome(verdict: Verdict, first: float = 0.0, status: int = 0, error: str = "") -> Outcome:
            return Outcome(kind.name, verdict, sent, time.monotonic() - sent, first, status, error)

        try:
            async with asyncio.timeout(LIMIT_SECONDS if stays is None else stays):
                sample = await self._connection.ask(message, sent)
        except TimeoutError:
            self.close()
            return outcome("failed" if stays is None else "left", error="no answer in time")
        except StreamError as error:
            self.close()
            return outcome("cut", error=str(error))
        except (OSError, EOFError, ValueError, LookupError) as error:
            self.close()
            streamed = isinstance(body, dict) and body.get("stream")
            return outcome("broken" if streamed else "failed", error=f"{type(error).__name__}: {error}")
        expected = sample.status == kind.status
        first = sample.first - sent
        return outcome("ok" if expected else "failed", first, sample.status, "" if expected else sample.error)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


async def ask_all(
    mix: Mix, place: tuple[str, int], keys: dict[str, str], counts: Sequence[int], seed: int
) -> list[Outcome]:
    """Each of so many clients asks its number of requests, one after the other."""
    found = await asyncio.gather(
        *(_ask_some(mix, Client(*place, keys), count, seed + place_) for place_, count in enumerate(counts))
    )
    return [outcome for outcomes in found for outcome in outcomes]


async def _ask_some(mix: Mix, client: Client, count: int, seed: int) -> list[Outcome]:
    rng = random.Random(seed)
    outcomes = [await ask_one(mix, client, rng) for _ in range(count)]
    client.close()
    return outcomes


class SteadyLoad:
    """So many clients that ask without a pause, in a thread of their own, as a context manager."""

    def __init__(
        self, mix: Mix, place: tuple[str, int], keys: dict[str, str], num_clients: int, seed: int
    ) -> None:
        self.outcomes: list[Outcome] = []
        self._mix = mix
        self._place = place
        self._keys = keys
        self._seeds = range(seed, seed + num_clients)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))

    def __enter__(self) -> "SteadyLoad":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def goes_on(self) -> bool:
        """Whether the clients are still there; a fault of this file ends them."""
        return self._thread.is_alive()

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(random.Random(seed)) for seed in self._seeds))

    async def _one(self, rng: random.Random) -> None:
        client = Client(*self._place, self._keys)
        while not self._stop.is_set():
            outcome = await ask_one(self._mix, client, rng)
            self.outcomes.append(outcome)
            if outcome.verdict == "failed":
                await asyncio.sleep(FAILED_PAUSE_SECONDS)
        client.close()


async def ask_one(mix: Mix, client: Client, rng: random.Random) -> Outcome:
    """A client's next request."""
    kind = mix.draw(rng)
    stays = None if kind.leaves_after is None else rng.uniform(*kind.leaves_after)
    return await client.ask(kind, kind.body(rng), stays)
