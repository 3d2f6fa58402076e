"""What happens to an endpoint while it is soaked; each event sees that it took effect."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import Any

import httpx
from tests.serving.endpoints import versions_of, wait_for_replicas

from heliostat.control.serving import change_endpoint
from heliostat.endpoints import Endpoint
from heliostat.records import Artifact
from heliostat.serving.access.key_records import KeyScope
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.config import ServeConfig
from heliostat.serving.guard.config import GuardConfig, WordsRule
from heliostat.serving.run import deploy_model
from heliostat.workspace import Workspace

COLLECTION = "manual"
BLOCKED_WORD = "abracadabra"
EFFECT_SECONDS = 30
CANARY_WEIGHT = 30
DOCUMENTS, DIFFERENT_DOCUMENTS = 20, 400
Event = tuple[str, Callable[[], None]]


class NoEffect(RuntimeError):
    """An event was not followed in time."""


@dataclass
class Steering:
    """An endpoint, and all that can be done to it; an operator's key is in the environment."""

    endpoint: Endpoint
    artifact: Artifact
    workspace: Workspace
    config: ServeConfig
    key: str
    _numbers: Iterator[int] = field(default_factory=count)

    def events(self) -> Iterator[Event]:
        """One after the other, for ever. A round leaves as many replicas and versions as there were."""
        documents = [("documents are added", self.add_documents)] if self.config.retrieval else []
        return cycle(
            [
                ("the only replica is killed", self.kill_a_replica),
                ("a filter changes", self.change_the_filter),
                ("scaled to two", lambda: self.scale(2)),
                ("one of two is killed", self.kill_a_replica),
                ("a canary", self.deploy_a_canary),
                ("promoted", lambda: self.change("promote")),
                *documents,
                ("a key is revoked", self.revoke_a_key),
                ("rolled back", lambda: self.change("rollback")),
                ("another canary", self.deploy_a_canary),
                ("the canary ends", lambda: self.change("rollback")),
                ("scaled to one", lambda: self.scale(1)),
                ("the cache is purged", self.purge),
            ]
        )

    def kill_a_replica(self) -> None:
        """By its process, at once; another must come up."""
        replicas = versions_of(self.endpoint)[-1]["replicas"]
        os.kill(replicas[0]["process"], signal.SIGKILL)
        wait_for_replicas(self.endpoint, len(replicas), without=replicas[0]["process"])

    def change_the_filter(self) -> None:
        """A new word is blocked, while the same replicas go on answering."""
        word = f"hocuspocus{next(self._numbers)}"
        self.config = self.config.model_copy(update={"guard": guard_against(BLOCKED_WORD, word)})
        deploy_model(self.config, self.artifact, self.workspace)
        self._until(lambda: self._ask(f"say {word}") == 400, f"'{word}' is not blocked")

    def scale(self, num_replicas: int) -> None:
        """To so many replicas."""
        self.config = self.config.model_copy(update={"num_replicas": num_replicas})
        self.change("scale", fewest=num_replicas, most=num_replicas)
        wait_for_replicas(self.endpoint, num_replicas)

    def deploy_a_canary(self) -> None:
        """A second version beside the first."""
        canary = self.config.model_copy(update={"weight": CANARY_WEIGHT})
        deploy_model(canary, self.artifact, self.workspace)
        if len(versions_of(self.endpoint)) != 2:
            raise NoEffect("there is no second version")

    def change(self, what: str, **values: Any) -> None:
        """An operation of the admin routes."""
        change_endpoint(self.endpoint.url, self.endpoint.name, what, values)

    def add_documents(self) -> None:
        """Some, which from the second round on take the places of others; they must be found."""
        numbers = [next(self._numbers) % DIFFERENT_DOCUMENTS for _ in range(DOCUMENTS)]
        texts = [
            {"id": f"d{number}", "text": f"The mirror number {number} follows the sun."} for number in numbers
        ]
        added = self._post(f"/v1/collections/{COLLECTION}/documents", {"documents": texts})
        if added.status_code != 200:
            raise NoEffect(f"documents were not added: {added.text}")

    def revoke_a_key(self) -> None:
        """One that was good a moment ago."""
        store = KeyStore(self.workspace.storage)
        scope = KeyScope(name=f"soon-revoked-{next(self._numbers)}", tenant="soak")
        key, record = store.create(scope)
        self._until(lambda: self._models(key) == 200, "a new key is not taken")
        store.revoke(record.prefix)
        self._until(lambda: self._models(key) == 401, "a revoked key is still taken")

    def purge(self) -> None:
        """Forget all kept answers."""
        headers = {"authorization": f"Bearer {os.environ['HELIOSTAT_API_KEY']}"}
        answer = httpx.post(f"{self.endpoint.url}/admin/cache/purge", json={}, headers=headers, timeout=60)
        answer.raise_for_status()

    def _models(self, key: str) -> int:
        headers = {"authorization": f"Bearer {key}"}
        return httpx.get(f"{self.endpoint.base_url}/models", headers=headers, timeout=60).status_code

    def _ask(self, text: str) -> int:
        asked = {
            "model": self.endpoint.name,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 1,
        }
        return self._post("/v1/chat/completions", asked).status_code

    def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.post(f"{self.endpoint.url}{path}", json=body, headers=headers, timeout=120)

    def _until(self, condition: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + EFFECT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise NoEffect(f"{complaint} within {EFFECT_SECONDS} s")
            time.sleep(0.2)


def guard_against(*words: str) -> GuardConfig:
    """The rules that come with Heliostat, and some words."""
    usual = GuardConfig()
    rule = WordsRule(id="soak", on="input", action="block", words=words)
    return usual.model_copy(update={"rules": (*usual.rules, rule)})
