"""What is believed of what a proxy says of a request, and from whom."""

import pytest
from dashboard.forwarded import note_forwarded, peer_of

PROXIES = ("10.0.3.0/24",)


def asked(peer: str, *headers: tuple[str, str], kind: str = "http") -> dict:
    scope = {
        "type": kind,
        "scheme": "ws" if kind == "websocket" else "http",
        "client": (peer, 1234),
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }
    note_forwarded(scope, PROXIES)
    return scope


HTTPS = ("x-forwarded-proto", "https")


@pytest.mark.parametrize(("kind", "scheme"), [("http", "https"), ("websocket", "wss")])
@pytest.mark.parametrize("peer", ["10.0.3.7", "::ffff:10.0.3.7"])
def test_a_named_proxy_is_believed_that_a_request_came_by_https(kind, scheme, peer):
    assert asked(peer, HTTPS, kind=kind)["scheme"] == scheme


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("10.0.4.7", [HTTPS]),
        ("10.0.3.7", []),
        ("10.0.3.7", [("x-forwarded-proto", "http")]),
        ("10.0.3.7", [("x-forwarded-proto", "http"), HTTPS]),
    ],
)
def test_nobody_else_is_and_no_two_words(peer, headers):
    assert asked(peer, *headers)["scheme"] == "http"


@pytest.mark.parametrize(
    ("peer", "said", "found"),
    [
        ("10.0.3.7", ["192.0.2.1"], "192.0.2.1"),
        ("10.0.3.7", ["192.0.2.1, 10.0.3.9"], "192.0.2.1"),
        ("10.0.3.7", ["1.1.1.1, 192.0.2.1"], "192.0.2.1"),  # what stands first anybody may have written
        ("10.0.3.7", ["1.1.1.1", "192.0.2.1"], "192.0.2.1"),
        ("10.0.3.7", [], "10.0.3.7"),
        ("192.0.2.1", ["1.1.1.1"], "192.0.2.1"),
    ],
)
def test_who_asks_is_whom_the_last_named_proxy_heard(peer, said, found):
    assert peer_of(asked(peer, *(("x-forwarded-for", each) for each in said))) == found
