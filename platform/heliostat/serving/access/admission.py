"""The gate: from a request's headers and peer to the caller, or a refusal. No waiting: all is in memory."""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, NoReturn

from heliostat.errors import ServingError
from heliostat.serving.access.addresses import (
    LOOPBACK,
    Networks,
    client_address,
    names_this_machine,
)
from heliostat.serving.access.callers import Caller, forbidden
from heliostat.serving.access.config import AccessConfig, Route
from heliostat.serving.access.key_records import KeyRecord
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.access.keyring import MAX_KEY_BYTES
from heliostat.serving.access.steady_time import SteadyTime
from heliostat.serving.api.errors import RefusedRequest

Headers = Iterable[tuple[bytes, bytes]]

LOOK_SECONDS = 1.0
LATE_SECONDS = 5.0
MAX_SITE_CHARACTERS = 100
MESSAGE = "Incorrect or missing API key; send it as 'Authorization: Bearer KEY'"


class Access:
    """Who may come in. `watch` follows the files; without it they are looked at by a request now and then."""

    def __init__(
        self,
        config: AccessConfig,
        keys: KeyStore,
        loopback_only: bool,
        also_refresh: Iterable[Callable[[], None]] = (),
    ) -> None:
        """`also_refresh` are other readers of live files, such as `Policy.refresh`.

        Raises:
            ServingError: others than this machine reach the gateway, and there is no key.
        """
        if not loopback_only and not keys.required:
            raise ServingError(
                "the gateway listens where other machines reach it, and there is no key; make one with "
                "'heliostat keys create NAME', or listen on 127.0.0.1"
            )
        self._keys = keys
        self._trusted = Networks.parse(config.trusted_proxies)
        self._admin = Networks.parse(config.admin_networks)
        self._time = SteadyTime()
        self._refreshers = (keys.refresh, *also_refresh)
        self._looked = time.monotonic()
        self._looking = False

    @property
    def needs_key(self) -> bool:
        """Whether requests need a key."""
        return self._keys.required

    def admit(self, headers: Headers, peer: str | None, route: Route) -> Caller:
        """The caller whose key the request bears; the model is checked when it is known, by `Caller.check`.

        `headers` are ASGI's, `peer` the socket's address.

        Raises:
            RefusedRequest: 401 without a key that is valid, 403 from the wrong network, for another route, or
                of a web page where no key is needed.
        """
        self._refresh_if_late()
        read = _read(headers)
        address = client_address(peer, read.forwarded_for, self._trusted)
        caller = self._caller(read, address)
        if route == "admin" and address not in self._admin:
            raise forbidden("Administration is not open to your network")
        caller.check(route)
        return caller

    def refresh(self) -> None:
        """Look at the files and read those that have changed; slow where they are remote or long."""
        self._looking = True
        try:
            for refresh in self._refreshers:
                refresh()
        finally:
            self._looked = time.monotonic()
            self._looking = False

    async def watch(self) -> None:
        """Refresh every second in a thread, until cancelled."""
        while True:
            await asyncio.to_thread(self.refresh)
            await asyncio.sleep(LOOK_SECONDS)

    def _refresh_if_late(self) -> None:
        """Nobody watches, or the watching ended: a revoked key must not live on for that."""
        if not self._looking and time.monotonic() - self._looked > LATE_SECONDS:
            self.refresh()

    def _caller(self, read: "_Read", address: str) -> Caller:
        given = read.authorization
        if not self._keys.required and address in LOOPBACK:
            _refuse_other_sites(read.sites)
            return Caller.anonymous(address)
        if len(given) > 1:
            _refuse("Several Authorization headers; send one")
        scheme, _, key = (given[0] if given else b"").partition(b" ")
        key = key.strip(b" \t")
        if scheme.lower() != b"bearer" or not 0 < len(key) <= MAX_KEY_BYTES:
            _refuse(MESSAGE)
        found = self._keys.ring.find(key)
        if found is None:
            _refuse(MESSAGE)
        record, networks = found
        state = record.state(self._time.now())
        if state != "active":
            _refuse(f"This API key is {state}")
        if networks and address not in networks:
            raise forbidden("This API key is not valid from your network")
        return _caller_of(record, address)


class _Read(NamedTuple):
    """The values of headers that count here, in their order."""

    authorization: list[bytes]
    forwarded_for: list[str]
    sites: list[str]
    """Of Origin and Host."""


_COUNTING = {b"authorization", b"x-forwarded-for", b"origin", b"host"}


def _read(headers: Headers) -> _Read:
    read = _Read([], [], [])
    for name, value in headers:
        lowered = name.lower()
        if lowered not in _COUNTING:
            continue
        if lowered == b"authorization":
            read.authorization.append(value)
        elif lowered == b"x-forwarded-for":
            read.forwarded_for.append(value.decode("latin-1"))
        else:
            read.sites.append(value.decode("latin-1"))
    return read


def _refuse_other_sites(sites: Iterable[str]) -> None:
    """Whoever sits at this machine needs no key, but the pages in their browser are others': one may post
    here (its Origin tells), or give this machine a name of its own (the Host tells).
    """
    for site in sites:
        if not names_this_machine(site):
            shown = site[:MAX_SITE_CHARACTERS]
            raise forbidden(
                f"A gateway without keys answers this machine only, and this request is of '{shown}'; "
                "make a key with 'heliostat keys create NAME' and send it"
            )


def _caller_of(record: KeyRecord, address: str) -> Caller:
    scope = record.scope
    return Caller(
        tenant=scope.tenant,
        name=scope.name,
        key_prefix=record.prefix,
        family=record.family,
        models=scope.models,
        routes=scope.routes,
        limits=scope.limits,
        address=address,
    )


def _refuse(message: str) -> NoReturn:
    raise RefusedRequest(message, "invalid_api_key", 401, headers={"www-authenticate": "Bearer"})
