"""Getting in without the right: keys, scopes, networks and forged addresses, over real sockets."""

import hmac
from datetime import timedelta

import pytest
from tests.serving.deployed import CHAT, QUESTION, gateway_of, refused

from heliostat.records import now
from heliostat.serving.access import keyring
from heliostat.serving.access.config import AccessConfig

PATHS = ("/v1/models", "/v1/models/tiny", "/metrics", "/openapi.json", "/admin/reviews", "/nothing", "/")
HOME, OTHER, PROXY = "127.0.0.1", "127.0.0.2", "127.0.0.3"


def ask(gateway, key=None, source=None, headers=None, **changes):
    with gateway.client(key, source) as client:
        return client.post(CHAT, json=QUESTION | changes, headers=headers or {})


def test_without_a_key_nothing_answers_but_health(gateway):
    with gateway.client() as client:
        assert {refused(client.get(path)) for path in PATHS} == {(401, "invalid_api_key")}
        assert client.get("/healthz").status_code == 200
    assert refused(ask(gateway)) == (401, "invalid_api_key")


@pytest.mark.parametrize("header", ["x-api-key", "api-key", "cookie", "proxy-authorization"])
def test_a_key_in_another_place_is_no_key(gateway, header):
    key = gateway.key()
    assert refused(ask(gateway, headers={header: f"Bearer {key}"})) == (401, "invalid_api_key")
    with gateway.client() as client:
        assert client.get(f"/v1/models?api_key={key}&authorization=Bearer%20{key}").status_code == 401


def test_a_wrong_key_is_refused_however_near_it_is(gateway):
    key = gateway.key()
    for wrong in (key[:-1], key + "0", key.upper(), key[:17], key[:-1] + "g", f"{key} {key}"):
        assert refused(ask(gateway, wrong)) == (401, "invalid_api_key")


def test_all_keys_are_compared_alike_and_in_constant_time(gateway, monkeypatch):
    """However much of a key is right: the same hashes, and the same comparison of whole hashes."""
    compared, hashed = [], []
    compare, digest = hmac.compare_digest, keyring.digest_of
    monkeypatch.setattr(
        keyring.hmac, "compare_digest", lambda one, two: compared.append(len(one)) or compare(one, two)
    )
    monkeypatch.setattr(keyring, "digest_of", lambda key, salt: hashed.append(len(salt)) or digest(key, salt))
    key, ring = gateway.key().encode(), gateway.services.doormen.access._keys.ring
    seen = set()
    for presented in (key, key[:-1] + b"!", key[:20] + b"0" * 61, b"sk-hs-0000000000-" + b"0" * 64):
        compared.clear()
        hashed.clear()
        ring.find(presented)
        seen.add((tuple(compared), tuple(hashed)))
    assert len(seen) == 1
    assert seen.pop()[0] == (32,)


def test_an_expired_key_is_refused(gateway):
    key = gateway.key(expires_at=now() - timedelta(seconds=1))
    response = ask(gateway, key)
    assert refused(response) == (401, "invalid_api_key")
    assert "expired" in response.json()["error"]["message"]


def test_a_revoked_key_is_refused_on_a_connection_that_is_open(gateway):
    key = gateway.key()
    with gateway.client(key) as client:
        assert client.post(CHAT, json=QUESTION).status_code == 200
        gateway.keys.revoke(key)
        gateway.services.doormen.access.refresh()
        assert refused(client.post(CHAT, json=QUESTION)) == (401, "invalid_api_key")


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize"])
def test_a_key_for_other_routes_opens_none(gateway, path):
    with gateway.client(gateway.key(routes=("models",))) as client:
        assert refused(client.post(path, json=QUESTION)) == (403, "permission_denied")
        assert refused(client.get("/metrics")) == (403, "permission_denied")
        assert refused(client.post("/admin/cache/purge", json={})) == (403, "permission_denied")
        assert refused(client.post(CHAT, headers={"x-http-method-override": "GET"})) == (
            403,
            "permission_denied",
        )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, QUESTION),
        ("/v1/completions", {"model": "tiny", "prompt": "a"}),
        ("/v1/embeddings", {"model": "tiny", "input": "a"}),
        ("/tokenize", {"model": "tiny", "prompt": "a"}),
        ("/detokenize", {"model": "tiny", "tokens": [1]}),
    ],
)
def test_a_key_for_other_models_opens_none(gateway, path, body):
    with gateway.client(gateway.key(models=("quick*", "TINY", "tiny?"))) as client:
        for model in ("tiny", "quick\ntiny", "tiny\0", "quick*tiny" * 100):
            assert client.post(path, json=body | {"model": model}).status_code in (403, 404)
        assert refused(client.post(path, json=body)) == (403, "permission_denied")
        assert refused(client.get("/v1/models/tiny")) == (403, "permission_denied")
        assert client.get("/v1/models").json()["data"] == []
    doubled = '{"model":"tiny","messages":[{"role":"user","content":"Hi"}],"model":"tiny"}'
    with gateway.client(gateway.key(models=("quick",))) as client:
        assert client.post(CHAT, content=doubled.replace("tiny", "quick", 1)).status_code == 403


def test_a_key_is_refused_from_another_network(gateway):
    key = gateway.key(networks=(f"{OTHER}/32",))
    assert ask(gateway, key, OTHER).status_code == 200
    assert refused(ask(gateway, key, HOME)) == (403, "permission_denied")
    assert refused(ask(gateway, key, PROXY)) == (403, "permission_denied")


FORGED = [
    {"x-forwarded-for": OTHER},
    {"x-forwarded-for": f"{OTHER}, {OTHER}"},
    {"x-forwarded-for": f"::ffff:{OTHER}"},
    {"X-Forwarded-For": f'"[::ffff:{OTHER}]:80"'},
    {"forwarded": f"for={OTHER}"},
    {"x-real-ip": OTHER, "x-client-ip": OTHER, "true-client-ip": OTHER},
    {"x-forwarded-host": OTHER, "via": OTHER},
]


@pytest.mark.parametrize("headers", FORGED)
def test_a_forged_address_is_not_believed_of_a_stranger(gateway, headers):
    """Not even of one on this machine, whom uvicorn would believe."""
    key = gateway.key(networks=(OTHER,))
    assert refused(ask(gateway, key, HOME, headers)) == (403, "permission_denied")


def test_what_a_client_forges_does_not_count_behind_a_trusted_proxy(tmp_path, prose):
    access = AccessConfig(trusted_proxies=(PROXY,), admin_networks=(OTHER,))
    with gateway_of(tmp_path, prose, access) as gateway:
        key = gateway.key(networks=(OTHER,))
        operator = gateway.key(name="op", routes=("admin",))

        def status(forwarded_for: list[str], source=PROXY) -> int:
            headers = [("authorization", f"Bearer {key}")]
            headers += [("x-forwarded-for", value) for value in forwarded_for]
            with gateway.client(source=source) as client:
                return client.post(CHAT, json=QUESTION, headers=headers).status_code

        for right in ([OTHER], [f"8.8.8.8, {OTHER}"], ["8.8.8.8", OTHER], [f"{OTHER}, {PROXY}"]):
            assert status(right) == 200
        assert status([f"::ffff:{OTHER}"]) == 200
        wrong = (
            [],
            [f"{OTHER}, 8.8.8.8"],
            [OTHER, "8.8.8.8"],
            [f"{OTHER},"],
            ["unknown"],
            [f"{OTHER} 8.8.8.8"],
        )
        for forwarded_for in (*wrong, [", ".join([OTHER] + [PROXY] * 40)], [OTHER, "x" * 5000]):
            assert status(forwarded_for) == 403
        assert status([OTHER], source=HOME) == 403
        with gateway.client(operator, PROXY) as client:
            forged = {"x-forwarded-for": f"{OTHER}, 8.8.8.8"}
            assert refused(client.get("/admin/reviews", headers=forged)) == (403, "permission_denied")
            assert client.get("/admin/reviews", headers={"x-forwarded-for": OTHER}).status_code == 200
        lines = gateway.audit(16)
    assert {line["address"] for line in lines if line["status"] == 200} == {OTHER}


def test_administration_is_refused_from_outside_with_the_right_key(tmp_path, prose):
    with gateway_of(tmp_path, prose, AccessConfig(admin_networks=(OTHER,))) as gateway:
        operator = gateway.key(routes=("admin",))
        with gateway.client(operator, HOME) as client:
            for path in ("/admin/reviews", "/admin/cache/purge", "/admin/nothing", "/admin"):
                assert refused(client.post(path)) == (403, "permission_denied")


def test_nothing_in_a_request_makes_it_anothers(tmp_path, prose):
    with gateway_of(tmp_path, prose) as gateway:
        key = gateway.key(tenant="acme")
        spoofed = {
            "user": "rival",
            "tenant": "rival",
            "metadata": {"tenant": "rival"},
            "organization": "rival",
        }
        headers = {"x-tenant": "rival", "openai-organization": "rival", "openai-project": "rival"}
        assert ask(gateway, key, headers=headers, **spoofed).status_code == 200
        (line,) = gateway.audit(1)
    assert line["tenant"] == "acme"
    assert "rival" not in str(line)
