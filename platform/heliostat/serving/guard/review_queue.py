"""Requests that wait for a person: one JSON file each in the workspace, named by what was asked.

A request's name is a hash of tenant, model and texts, so that the same request finds its own decision, and a
name that somebody types can lead nowhere else.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from heliostat.errors import ConfigError, StorageError
from heliostat.serving.api.errors import RefusedRequest
from heliostat.storage import Storage

FOLDER = "review"
Status = Literal["pending", "approved", "rejected"]
_ID = re.compile(r"[0-9a-f]{32}")
_MOST_SHOWN = 20_000
_MOST_ITEMS = 10_000
# As many are looked through for old ones at a time, when one is added to a full queue.
_SWEPT = 200


class ReviewItem(BaseModel):
    """A request, why it waits, and what was decided. Times in seconds since 1970."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    tenant: str
    model: str
    rules: tuple[str, ...]
    """The rules that held it; an approval is for these."""
    texts: tuple[str, ...]
    """What was asked, of long texts the beginning."""
    status: Status = "pending"
    created: float
    decided: float | None = None
    by: str | None = None
    reason: str | None = None


class ReviewQueue:
    """The queue in a workspace's storage. Every call reads the files anew: several processes share it.

    Its calls read and write files; on an event loop, call them through `asyncio.to_thread`.
    """

    def __init__(
        self, storage: Storage, ttl_seconds: float = 7 * 86400, now: Callable[[], float] = time.time
    ) -> None:
        """A request waits so long for a decision, and a decision holds so long."""
        self._storage = storage
        self._ttl = ttl_seconds
        self._now = now

    def ask(self, tenant: str, model: str, texts: Sequence[str], rules: Sequence[str]) -> ReviewItem:
        """What is decided about a request that these rules hold; it waits from now on when nothing is.

        Raises:
            RefusedRequest: too many requests wait (503).
        """
        name = request_fingerprint(tenant, model, texts)
        item = self._find(name)
        if item and (item.status == "rejected" or set(rules) <= set(item.rules)):
            return item
        if item is None and len(self._names()) >= _MOST_ITEMS and not self._sweep():
            raise RefusedRequest(
                "Too many requests wait for review; ask again later", "review_queue_full", status=503
            )
        shown = tuple(_storable(text[:_MOST_SHOWN]) for text in texts)
        item = ReviewItem(
            id=name,
            tenant=_storable(tenant),
            model=_storable(model),
            rules=tuple(dict.fromkeys((*(item.rules if item else ()), *rules))),
            texts=shown,
            created=self._now(),
        )
        self._write(item)
        return item

    def list(self, status: Status | None = None) -> list[ReviewItem]:
        """All items that are not too old, those that wait first, and of these the oldest first."""
        items = [item for item in map(self._find, self._names()) if item]
        wanted = [item for item in items if status in (None, item.status)]
        return sorted(wanted, key=lambda item: (item.status != "pending", item.created, item.id))

    def get(self, name: str) -> ReviewItem:
        """An item by its id, or by the first eight and more characters of it.

        Raises:
            ConfigError: there is none, or there are several.
        """
        if not re.fullmatch(r"[0-9a-f]{8,32}", name):
            raise ConfigError(f"'{name[:80]}' is no id of a review; 'heliostat review list' shows them")
        names = [name] if len(name) == 32 else [each for each in self._names() if each.startswith(name)]
        if len(names) > 1:
            raise ConfigError(f"{len(names)} reviews begin with '{name}'; give more of the id")
        item = self._find(names[0]) if names else None
        if item is None:
            raise ConfigError(f"no review '{name}' waits or is remembered; see 'heliostat review list'")
        return item

    def approve(self, name: str, by: str, reason: str = "") -> ReviewItem:
        """Let the request through, whenever it is asked again by the same tenant.

        Raises:
            ConfigError: there is no such item, or it is decided otherwise.
        """
        return self._decide(name, "approved", by, reason)

    def reject(self, name: str, by: str, reason: str = "") -> ReviewItem:
        """Refuse the request, whenever it is asked again by the same tenant.

        Raises:
            ConfigError: there is no such item, or it is decided otherwise.
        """
        return self._decide(name, "rejected", by, reason)

    def _decide(self, name: str, status: Status, by: str, reason: str) -> ReviewItem:
        item = self.get(name)
        if item.status != "pending" and item.status != status:
            raise ConfigError(f"review '{item.id}' was {item.status} by {item.by}; a decision stays")
        if item.status == status:
            return item
        said = {"status": status, "by": _storable(by), "reason": _storable(reason), "decided": self._now()}
        decided = item.model_copy(update=said)
        self._write(decided)
        return decided

    def _find(self, name: str) -> ReviewItem | None:
        """The item, unless it is too old, gone, or no item at all."""
        path = f"{FOLDER}/{name}.json"
        if not self._storage.exists(path):
            return None
        try:
            item = ReviewItem.model_validate(json.loads(self._storage.read_bytes(path)))
        except (StorageError, ValidationError, ValueError, RecursionError):
            return None  # taken away meanwhile, or written by somebody else
        return item if item.id == name and self._now() - (item.decided or item.created) <= self._ttl else None

    def _names(self) -> Sequence[str]:
        names = (each.removesuffix(".json") for each in self._storage.list(FOLDER))
        return [name for name in names if _ID.fullmatch(name)]

    def _sweep(self) -> bool:
        """Remove some that are too old; whether there were any."""
        old = [name for name in self._names()[:_SWEPT] if self._find(name) is None]
        for name in old:
            self._storage.delete(f"{FOLDER}/{name}.json")
        return bool(old)

    def _write(self, item: ReviewItem) -> None:
        content: dict[str, Any] = item.model_dump(mode="json")
        self._storage.write_bytes(f"{FOLDER}/{item.id}.json", json.dumps(content, indent=1).encode())


def request_fingerprint(tenant: str, model: str, texts: Sequence[str]) -> str:
    """32 hexadecimal digits that are equal for the same request by the same tenant."""
    stated = json.dumps([tenant, model, list(texts)]).encode()
    return hashlib.sha256(stated).hexdigest()[:32]


def _storable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
