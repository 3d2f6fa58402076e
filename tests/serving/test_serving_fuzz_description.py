"""The API against its own OpenAPI description, over HTTP: schemathesis makes requests that fit it and some
that do not, and looks at each answer.
"""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator, validate
from starlette.routing import Match
from tests.serving.deployed import gateway_of

from heliostat.endpoints import Version
from heliostat.records import now
from heliostat.serving.access.config import ROUTES
from heliostat.serving.config import ServeConfig
from heliostat.serving.fleet.status import EndpointStatus, ReplicaStatus, VersionStatus
from heliostat.serving.gateway.steering import Steering
from heliostat.serving.retrieval.config import RetrievalConfig
from heliostat.serving.retrieval.store import Collections
from heliostat.storage import Storage

pytestmark = pytest.mark.heavy
EXAMPLES = 25
OPERATIONS = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/v1/collections"),
    ("GET", "/v1/collections/{name}"),
    ("DELETE", "/v1/collections/{name}"),
    ("POST", "/v1/collections/{name}/documents"),
    ("DELETE", "/v1/collections/{name}/documents"),
    ("POST", "/v1/collections/{name}/search"),
    ("POST", "/admin/cache/purge"),
    ("GET", "/admin/reviews"),
    ("POST", "/admin/reviews/{id}/approve"),
    ("POST", "/admin/reviews/{id}/reject"),
    ("GET", "/admin/endpoints"),
    ("DELETE", "/admin/endpoints/{name}"),
    ("GET", "/admin/endpoints/{name}/logs"),
    ("POST", "/admin/endpoints/{name}/canary"),
    ("POST", "/admin/endpoints/{name}/promote"),
    ("POST", "/admin/endpoints/{name}/rollback"),
    ("POST", "/admin/endpoints/{name}/scale"),
]


class OneEndpoint(Steering):
    """A cluster's endpoints, which nothing changes."""

    async def status(self):
        replica = ReplicaStatus(
            id="r",
            node="n",
            process=1,
            num_requests=0,
            num_waiting=0,
            tokens_per_second=0,
            num_generated_tokens=0,
            kv_cache_usage=None,
            adapters=(),
        )
        version = VersionStatus(
            label="v1",
            weight=100,
            artifact_id="a",
            engine="transformers",
            fewest_replicas=1,
            most_replicas=1,
            adapters=(),
            max_loaded_adapters=1,
            replicas=(replica,),
        )
        return [EndpointStatus(name="tiny", url="http://127.0.0.1", note=None, versions=(version,))]

    async def operate(self, what, name, values):
        return None if what == "delete" and name == "0" else f"there is no endpoint {name}"

    async def logs(self, name, num_lines):
        return {"v1/r": ["a line"] * min(num_lines, 3)}


async def embed(texts):
    return np.full((len(texts), 4), 0.5, np.float32)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory, prose):
    """One with everything switched on."""
    folder = tmp_path_factory.mktemp("fuzz")
    retrieval = RetrievalConfig()
    collections = Collections(Storage(str(folder)), retrieval, embed, "half")
    config = ServeConfig(retrieval=retrieval)
    with gateway_of(folder, prose, config=config, collections=collections, steering=OneEndpoint()) as gateway:
        with gateway.client(gateway.key()) as client:
            documents = {"documents": [{"id": "a", "text": "A mirror follows the sun."}]}
            assert client.post("/v1/collections/manual/documents", json=documents).status_code == 200
        yield gateway


@pytest.fixture(scope="module")
def key(gateway) -> str:
    return gateway.key(routes=ROUTES)


@pytest.fixture(scope="module")
def document(gateway, key) -> dict:
    with gateway.client(key) as client:
        return client.get("/openapi.json").json()


def described(document) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}


def test_the_description_is_valid_and_names_its_operations_apart(document):
    validate(document, cls=OpenAPIV31SpecValidator)
    names = [
        operation["operationId"] for methods in document["paths"].values() for operation in methods.values()
    ]
    assert len(set(names)) == len(names)


def test_every_mounted_route_is_described_and_nothing_else(gateway, document):
    assert described(document) == set(OPERATIONS)
    for route in gateway.routes:
        matched = {
            method
            for method, path in OPERATIONS
            if route.matches({"type": "http", "method": method, "path": re.sub(r"[{}]", "", path)})[0]
            == Match.FULL
        }
        assert matched >= route.methods - {"HEAD"}, route.path


def test_all_but_health_say_that_they_need_a_key(document):
    without = {
        path
        for path, methods in document["paths"].items()
        if any(operation.get("security") != [{"key": []}] for operation in methods.values())
    }
    assert without == {"/healthz"}
    assert document["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}


def test_every_field_that_is_read_is_described(document):
    from heliostat.serving.api.chat_request import ChatCompletionRequest
    from heliostat.serving.api.text_requests import CompletionRequest, EmbeddingRequest, TokenizeRequest

    schemas = document["components"]["schemas"]
    for model in (ChatCompletionRequest, CompletionRequest, EmbeddingRequest, TokenizeRequest):
        assert schemas[model.__name__]["properties"].keys() == model.model_fields.keys()


def name_what_is_there(case) -> None:
    """A made-up model or collection is a 404, whatever else is asked."""
    if isinstance(case.body, dict) and "model" in case.body:
        case.body["model"] = "tiny"
    case.path_parameters.update(
        {
            name: {"model": "tiny", "name": "manual"}.get(name, value)
            for name, value in case.path_parameters.items()
        }
    )


@pytest.mark.parametrize("fitting", [True, False], ids=["fitting", "not"])
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_answers_are_as_described(gateway, key, document, method, path, fitting):
    import schemathesis
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    looked_at = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]
    operation = schemathesis.openapi.from_dict(document)[path][method]
    mode = schemathesis.GenerationMode.POSITIVE if fitting else schemathesis.GenerationMode.NEGATIVE
    if not fitting and not (operation.body or operation.path_parameters or operation.query):
        return
    headers = {"authorization": f"Bearer {key}"}

    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def ask(case, known):
        if known and fitting:
            name_what_is_there(case)
        case.call_and_validate(base_url=gateway.url, headers=headers, checks=looked_at, timeout=10)

    ask()


def test_an_operation_that_is_done_is_answered_as_described(gateway, key, document):
    """The fuzzed ones above name endpoints that are not there."""
    from jsonschema import Draft202012Validator

    version = Version(
        label="v1",
        app_name="x",
        weight=100,
        artifact_id="a",
        artifact_uri="a",
        engine="transformers",
        config={},
        started_at=now(),
    )
    schema = {**document, "$ref": "#/components/schemas/Operated"}
    assert Draft202012Validator(schema).is_valid({"name": "x", "versions": [version.model_dump(mode="json")]})
    with gateway.client(key) as client:
        done = client.delete("/admin/endpoints/0").json()
    assert Draft202012Validator(schema).is_valid(done)
