"""Where a request comes from, and what its caller may do."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from heliostat.serving.access.addresses import MAX_HOPS, UNKNOWN, Networks, client_address, parse_address
from heliostat.serving.access.admission import Access
from heliostat.serving.access.callers import Caller
from heliostat.serving.access.config import AccessConfig, Limits, RateLimitConfig
from heliostat.serving.access.key_records import KeyScope
from heliostat.serving.access.key_store import KeyStore
from heliostat.serving.api.errors import RefusedRequest
from heliostat.storage import Storage

PROXIES = Networks.parse(("10.0.0.0/8", "2001:db8::/32"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        ("203.0.113.1", [], "203.0.113.1"),
        ("203.0.113.1", ["10.0.0.1"], "203.0.113.1"),  # forged: the peer is nobody's proxy
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["127.0.0.1, 198.51.100.7"], "198.51.100.7"),  # the left part is the client's own
        ("10.0.0.1", ["127.0.0.1, 198.51.100.7, 10.9.9.9"], "198.51.100.7"),
        ("10.0.0.1", ["127.0.0.1", "198.51.100.7", "10.9.9.9"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7", "not an address"], UNKNOWN),
        ("10.0.0.1", ["not an address, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", [""], UNKNOWN),
        ("10.0.0.1", ["198.51.100.7,"], UNKNOWN),
        ("10.0.0.1", ["unknown"], UNKNOWN),
        ("10.0.0.1", ["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.7"], "198.51.100.7"),
        ("2001:db8::1", ["[2001:DB8:0::2]:443, [2a00::1]:8080"], "2a00::1"),
        ("10.0.0.1", ["198.51.100.7:1234"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7\x00"], UNKNOWN),
        ("10.0.0.1", ["198.51.100.7\r\n10.0.0.1"], UNKNOWN),
        ("10.0.0.1", ["1" * 2**20], UNKNOWN),
        ("10.0.0.1", ["10.0.0.2," * 100_000], UNKNOWN),
        ("10.0.0.1", ["127.1"], UNKNOWN),
        ("10.0.0.1", ["0177.0.0.1"], UNKNOWN),
        ("fe80::1%eth0", [], "fe80::1"),
        ("", [], UNKNOWN),
        (None, ["127.0.0.1"], UNKNOWN),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_the_client_is_the_rightmost_hop_that_is_no_proxy_of_ours(peer, forwarded_for, expected):
    assert client_address(peer, forwarded_for, PROXIES) == expected


def test_no_header_is_believed_without_trusted_proxies():
    assert client_address("127.0.0.1", ["198.51.100.7"], Networks()) == "127.0.0.1"


def test_an_endless_chain_of_proxies_is_not_followed():
    chain = ["10.0.0.2"] * (MAX_HOPS - 1)
    assert client_address("10.0.0.1", ["198.51.100.7", *chain], PROXIES) == "198.51.100.7"
    assert client_address("10.0.0.1", ["198.51.100.7", *chain, "10.0.0.2"], PROXIES) == UNKNOWN


@settings(deadline=None)
@given(st.lists(st.text(max_size=40), max_size=5), st.ip_addresses())
def test_what_a_client_writes_never_changes_what_the_proxy_says_of_it(written, client):
    """A proxy appends the true address to whatever the client sent."""
    told = str(parse_address(str(client)))
    if told in PROXIES:
        return
    assert client_address("10.0.0.1", [*written, told], PROXIES) == told
    assert client_address("10.0.0.1", [f"{','.join(written)}, {told}"], PROXIES) == told


@settings(deadline=None)
@given(st.text(max_size=80))
def test_no_text_breaks_the_reading_of_addresses(text):
    parse_address(text)
    assert UNKNOWN not in PROXIES


def test_networks_hold_addresses_in_both_notations():
    networks = Networks.parse(("192.0.2.0/24", "::ffff:198.51.100.0/120"))
    assert "::ffff:192.0.2.9" in networks
    assert "198.51.100.3" in networks
    assert "198.51.101.3" not in networks


@pytest.mark.parametrize("wrong", ["", "10.0.0.0/33", "10.0.0.1/8", "hosts", "10.0.0.0/8/8", "::/129"])
def test_a_wrong_network_is_refused_in_the_config(wrong):
    with pytest.raises(ValidationError, match=r"no network|bits set"):
        AccessConfig.model_validate({"trusted_proxies": [wrong]})


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"rate_limits": {"storage_url": "memcached://x"}}, "use memory://"),
        ({"rate_limits": {"storage_url": "redis://"}}, "names no host and port"),
        ({"policy": {"timezone": "Europe/Nowhere"}}, "is unknown"),
        ({"policy": {"timezone": "../../etc/passwd"}}, "is unknown"),
        ({"rate_limits": {"default": {"concurrency": 0}}}, "greater than or equal to 1"),
    ],
)
def test_a_config_that_cannot_work_is_refused(section, message):
    with pytest.raises(ValidationError, match=message):
        AccessConfig.model_validate(section)


def test_limits_fall_back_one_by_one():
    own = Limits(requests_per_minute=5)
    assert own.or_else(Limits(requests_per_minute=1, concurrency=2)) == Limits(
        requests_per_minute=5, concurrency=2
    )
    assert not RateLimitConfig().shared


@pytest.fixture
def gate(tmp_path):
    storage = Storage.at(tmp_path)

    def gate(config: AccessConfig | None = None, **fields):
        scope = KeyScope.model_validate({"name": "ci", "tenant": "acme"} | fields)
        key, _ = KeyStore(storage).create(scope)
        access = Access(config or AccessConfig(), KeyStore(storage), loopback_only=False)
        headers = [(b"authorization", b"Bearer " + key.encode())]
        return lambda peer, route="chat", more=(): access.admit([*headers, *more], peer, route)

    return gate


def refusal(call, *arguments) -> RefusedRequest:
    with pytest.raises(RefusedRequest) as caught:
        call(*arguments)
    assert caught.value.headers["x-should-retry"] == "false"
    return caught.value


def test_a_key_with_networks_opens_from_them_only(gate):
    admit = gate(
        AccessConfig(trusted_proxies=("192.0.2.1",)), networks=["10.0.0.0/8", "2001:db8::/32"], models=["*"]
    )
    for peer in ("10.1.1.1", "::ffff:10.1.1.1", "2001:db8::7"):
        assert admit(peer).tenant == "acme"
    forwarded = [(b"X-Forwarded-For", b"10.1.1.1")]
    assert admit("192.0.2.1", "chat", forwarded).address == "10.1.1.1"
    for peer, more in (("11.0.0.1", ()), ("11.0.0.1", forwarded), ("192.0.2.1", ()), (None, ()), ("", ())):
        refused = refusal(admit, peer, "chat", more)
        assert (refused.status, refused.code) == (403, "permission_denied")


def test_a_key_opens_its_routes_only(gate):
    admit = gate(routes=["chat", "models"])
    assert admit("8.8.8.8", "models").routes == ("chat", "models")
    refused = refusal(admit, "8.8.8.8", "embeddings")
    assert "it opens: chat, models" in str(refused)


def test_administration_needs_the_route_and_the_network(gate):
    admit = gate(AccessConfig(admin_networks=("10.0.0.0/8",)), routes=["admin"])
    assert admit("10.0.0.1", "admin").name == "ci"
    assert refusal(admit, "127.0.0.1", "admin").status == 403
    assert refusal(gate(), "127.0.0.1", "admin").status == 403


@pytest.mark.parametrize(
    ("model", "allowed"),
    [
        ("quick", True),
        ("quick-2", True),
        ("chat", True),
        ("Quick", False),
        ("slow", False),
        ("", False),
        ("quick" + "x" * 300, False),
        ("qu*", False),
        ("chat\n", False),
    ],
)
def test_a_key_opens_the_models_that_its_patterns_name(gate, model, allowed):
    caller = gate(models=["quick*", "chat"])("8.8.8.8")
    assert caller.allows_model(model) is allowed
    if allowed:
        caller.check("chat", model)
    else:
        refused = refusal(caller.check, "chat", model)
        assert (refused.status, refused.param) == (403, "model")
        assert len(str(refused)) < 500


def test_the_anonymous_caller_may_do_everything():
    Caller.anonymous("127.0.0.1").check("admin", "any-model")


@pytest.fixture
def keyless(tmp_path) -> Access:
    return Access(AccessConfig(), KeyStore(Storage.at(tmp_path)), loopback_only=True)


@pytest.mark.parametrize(
    "sites",
    [
        {"host": "localhost:8000", "origin": "http://localhost:3000"},
        {"host": "127.0.0.1:8000"},
        {"host": "[::1]:8000", "origin": "http://[::1]:3000"},
        {},
    ],
)
def test_without_keys_whoever_sits_at_the_machine_is_let_in(keyless, sites):
    headers = [(name.encode(), site.encode()) for name, site in sites.items()]
    assert keyless.admit(headers, "127.0.0.1", "admin").name == "anonymous"


@pytest.mark.parametrize(
    "header",
    [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", ""),
        ("origin", "http://localhost.evil.example:8000"),
        ("origin", "http://localhost@evil.example"),
        ("host", "evil.example:8000"),  # whose name was made to mean this machine
        ("host", "["),
        ("Host", "10.0.0.1"),
    ],
)
def test_without_keys_a_page_of_another_site_is_refused(keyless, header):
    name, site = (part.encode() for part in header)
    refused = refusal(keyless.admit, [(b"host", b"127.0.0.1"), (name, site)], "127.0.0.1", "chat")
    assert (refused.status, refused.code) == (403, "permission_denied")
    assert "heliostat keys create" in str(refused)


def test_with_a_key_the_site_does_not_matter(tmp_path):
    keys = KeyStore(Storage.at(tmp_path))
    key, _ = keys.create(KeyScope(name="web", tenant="web"))
    access = Access(AccessConfig(), keys, loopback_only=True)
    access.refresh()
    headers = [(b"origin", b"https://our.example"), (b"authorization", f"Bearer {key}".encode())]
    assert access.admit(headers, "127.0.0.1", "chat").name == "web"
