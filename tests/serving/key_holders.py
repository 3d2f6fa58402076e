"""Pieces of the tests of keys: a key's scope, its header, and who asks whether it opens."""

import pytest

from heliostat.serving.access.admission import Access
from heliostat.serving.access.config import AccessConfig
from heliostat.serving.access.key_records import KeyScope
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.api.errors import RefusedRequest
from heliostat.storage import Storage


def scope(**fields) -> KeyScope:
    return KeyScope.model_validate({"name": "ci", "tenant": "acme"} | fields)


def bearer(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Bearer " + key.encode())]


def access_to(storage: Storage, **config) -> Access:
    return Access(AccessConfig.model_validate(config), KeyStore(storage), loopback_only=True)


def refusal(access: Access, headers, peer="127.0.0.1", route="chat") -> RefusedRequest:
    with pytest.raises(RefusedRequest) as caught:
        access.admit(headers, peer, route)
    return caught.value
