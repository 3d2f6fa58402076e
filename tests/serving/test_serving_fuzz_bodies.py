"""Bodies that no client sends: each is refused in OpenAI's form within seconds, none is a fault of ours."""

import gzip
import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serving.deployed import CHAT, QUESTION, gateway_of, refused
from tests.serving.hostile_bodies import NO_JSON, REFUSED, chat

from heliostat.serving.config import ServeConfig
from heliostat.serving.retrieval.config import RetrievalConfig
from heliostat.serving.retrieval.store import Collections
from heliostat.storage import Storage

SOON = 10
"""Seconds of processor time, client and gateway together; the worst of these takes four."""
WITH_BODY = [
    CHAT,
    "/v1/completions",
    "/v1/embeddings",
    "/tokenize",
    "/detokenize",
    "/v1/collections/c/documents",
    "/v1/collections/c/search",
    "/admin/cache/purge",
    "/admin/reviews/0123456789/approve",
]


async def embed(texts):
    return np.full((len(texts), 4), 0.5, np.float32)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, prose):
    """One with collections."""
    folder, retrieval = tmp_path_factory.mktemp("bodies"), RetrievalConfig()
    collections = Collections(Storage(str(folder)), retrieval, embed, "half")
    config = ServeConfig(retrieval=retrieval, body_timeout_seconds=5)
    with gateway_of(folder, prose, config=config, collections=collections) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(gateway):
    key = gateway.key(routes=("chat", "completions", "embeddings", "tokenize", "collections", "admin"))
    with gateway.client(key) as client:
        yield client


def post(client, path: str, content: bytes | str, **headers):
    """The answer, which is there soon."""
    began = time.process_time()
    response = client.post(path, content=content, headers=headers)
    assert time.process_time() - began < SOON
    assert response.status_code < 500, response.text
    return response


@pytest.mark.parametrize("what", NO_JSON)
def test_what_is_no_json_object_is_refused_everywhere(client, what):
    for path in WITH_BODY:
        allowed = {(400, "invalid_json"), (400, "invalid_value"), (413, "request_too_large")}
        if (what, path.startswith("/admin")) == ("nothing", True):
            continue  # operators may leave an empty body out
        assert refused(post(client, path, NO_JSON[what])) in allowed, path


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip", "x" * 1000])
def test_what_is_packed_is_not_unpacked(client, encoding):
    packed = gzip.compress(json.dumps(QUESTION).encode() + b" " * 10**7)
    response = post(client, CHAT, packed, **{"content-encoding": encoding})
    assert refused(response) == (400, "invalid_json")


@pytest.mark.parametrize(
    "kind", ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded", "", "\u00e4"]
)
def test_another_content_type_does_not_change_how_a_body_is_read(client, kind):
    good = post(client, CHAT, json.dumps(QUESTION), **{"content-type": kind.encode()})
    assert good.status_code == 200
    bad = post(client, CHAT, "model=tiny&messages=a", **{"content-type": kind.encode()})
    assert refused(bad) == (400, "invalid_json")


@pytest.mark.heavy
@pytest.mark.parametrize("what", REFUSED)
def test_what_nobody_means_is_refused_soon(client, what):
    path, body = REFUSED[what]
    status, _ = refused(post(client, path, body))
    assert 400 <= status < 500


@pytest.mark.parametrize("field", ["user", "metadata", "unknown", "store"])
def test_what_does_not_matter_may_be_anything(client, field):
    for value in ('"' + "x" * 10**6 + '"', '"\\u0000"', '"\\n"'):
        response = post(client, CHAT, chat(f'"{field}": {value}'))
        assert response.status_code == 200, response.text
    deep = post(client, CHAT, chat('"unknown": ' + "[" * 1000 + "]" * 1000))
    assert deep.status_code == 200


@pytest.mark.parametrize("lines", ["9" * 5000, "-1", "1e3", "\u0663", "0", "1_0", "NaN", "10001", "\u00b2"])
def test_a_number_in_a_path_is_read_as_one_or_refused(gateway, tmp_path, prose, lines):
    from tests.serving.test_serving_fuzz_description import OneEndpoint

    with (
        gateway_of(tmp_path, prose, steering=OneEndpoint()) as other,
        other.client(other.key(routes=("admin",))) as operator,
    ):
        response = operator.get("/admin/endpoints/tiny/logs", params={"lines": lines})
    assert response.status_code == 200 if lines == "\u0663" else refused(response) == (400, "invalid_value")


@pytest.mark.parametrize(
    "name", ["%2e%2e", "..%2f..%2fx", "a%2fb", "a%00", "a%0a", "-a", "a" * 65, "~", "%ff"]
)
def test_a_collections_name_leads_nowhere(client, gateway, name):
    before = sorted(path for path in gateway.keys._file.storage.list("")) if gateway.keys._file else []
    documents = json.dumps({"documents": [{"id": "../../a", "text": "b"}]})
    for path in (f"/v1/collections/{name}/documents", f"/v1/collections/{name}/search"):
        assert post(client, path, documents).status_code in (400, 404, 405)
    for method in ("GET", "DELETE"):
        assert client.request(method, f"/v1/collections/{name}").status_code in (400, 404, 405)
    asked = QUESTION | {"retrieval": {"collection": name}}
    assert client.post(CHAT, json=asked).status_code in (400, 404)
    assert sorted(gateway.keys._file.storage.list("")) == before


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)  # fmt: skip
FIELDS = [
    "messages",
    "prompt",
    "input",
    "tokens",
    "tools",
    "tool_choice",
    "response_format",
    "stop",
    "n",
    "seed",
]
FIELDS += [
    "max_tokens",
    "temperature",
    "top_p",
    "logit_bias",
    "stream",
    "stream_options",
    "user",
    "retrieval",
]
FIELDS += ["documents", "ids", "query", "top_k", "logprobs", "add_special_tokens", "echo", "model", "min_p"]


@settings(deadline=None)
@given(path=st.sampled_from(WITH_BODY), body=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6))
def test_any_values_of_known_fields_are_answered_or_refused(client, path, body):
    response = post(client, path, json.dumps({"model": "tiny"} | body))
    if response.status_code != 200:
        refused(response)


@settings(deadline=None)
@given(path=st.sampled_from(WITH_BODY), body=st.binary(max_size=200))
def test_any_bytes_are_answered_or_refused(client, path, body):
    response = post(client, path, body)
    if response.status_code != 200:
        refused(response)
