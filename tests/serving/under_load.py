"""Clients that ask without a pause, and count what came of it."""

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

MESSAGES = [{"role": "user", "content": "What does str.upper do? 日本"}]


@dataclass
class Outcomes:
    """What became of the requests: `kinds` counts ok, cut (an error event in a stream), and failures."""

    kinds: Counter = field(default_factory=Counter)
    versions: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


class Load:
    """`num_clients` clients of one endpoint in a thread of their own, as a context manager."""

    def __init__(self, base_url: str, model: str, num_clients: int = 4, max_tokens: int = 12) -> None:
        self.outcomes = Outcomes()
        self._base_url = base_url
        self._request = {"model": model, "messages": MESSAGES, "max_tokens": max_tokens, "temperature": 0}
        self._num_clients = num_clients
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for(self, condition, seconds: float = 60) -> None:
        """Until `condition(outcomes)` holds."""
        deadline = time.monotonic() + seconds
        while not condition(self.outcomes):
            assert time.monotonic() < deadline, self.outcomes
            time.sleep(0.02)

    async def _all(self) -> None:
        headers = {"cache-control": "no-store"}  # each request is an engine's work
        async with httpx.AsyncClient(timeout=120, headers=headers) as client:
            await asyncio.gather(
                *(self._one(client, bool(number % 2)) for number in range(self._num_clients))
            )

    async def _one(self, client: httpx.AsyncClient, stream: bool) -> None:
        while not self._stop.is_set():
            try:
                response = await client.post(
                    f"{self._base_url}/chat/completions", json=self._request | {"stream": stream}
                )
            except httpx.HTTPError as error:
                self._note("failed", repr(error))
                continue
            if response.status_code != 200:
                self._note("failed", f"{response.status_code} {response.text}")
            elif stream and not response.text.endswith("data: [DONE]\n\n"):
                self._note("cut" if '"error"' in response.text else "failed", response.text[-300:])
            else:
                self.outcomes.kinds["ok"] += 1
                self.outcomes.versions[response.headers["x-heliostat-version"]] += 1

    def _note(self, kind: str, what: str) -> None:
        self.outcomes.kinds[kind] += 1
        if kind == "failed":
            self.outcomes.failures.append(what)
