"""The API's description: valid, complete, and true."""

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from heliostat.serving.api import responses
from heliostat.serving.api.chat_request import ChatCompletionRequest
from heliostat.serving.api.errors import RefusedRequest
from heliostat.serving.api.openapi import OPERATIONS, REFUSALS, Operation, openapi_document
from heliostat.serving.api.text_requests import CompletionRequest, EmbeddingRequest


@pytest.fixture(scope="module")
def document() -> dict:
    return openapi_document(keys_required=True)


def test_it_is_valid_openapi_of_version_3_1(document):
    assert document["openapi"] == "3.1.0"
    validate(document, cls=OpenAPIV31SpecValidator)
    validate(openapi_document(keys_required=False), cls=OpenAPIV31SpecValidator)


def test_every_route_has_its_refusals_in_openais_form(document):
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    assert len(operations) == len(OPERATIONS)
    for operation in operations:
        assert operation["responses"].keys() == {"200"} | {str(status) for status in REFUSALS}
        schema = operation["responses"]["400"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/ErrorBody"}
        assert operation["security"] == [{"key": []}]


def test_other_rooms_can_add_routes(document):
    more = Operation("/v1/collections", "List collections", responses.ModelList, method="get")
    assert "/v1/collections" in openapi_document(False, (more,))["paths"]


BODIES = [
    (ChatCompletionRequest, {"messages": [{"role": "user", "content": "a"}]}, True),
    (
        ChatCompletionRequest,
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
        True,
    ),
    (ChatCompletionRequest, {"messages": [], "stop": ["a"], "logit_bias": {"1": 5}, "x": 1}, True),
    (ChatCompletionRequest, {"messages": [], "response_format": {"type": "json_object"}}, True),
    (ChatCompletionRequest, {"messages": [], "stop": list("abcde")}, False),
    (ChatCompletionRequest, {"messages": [], "temperature": "1"}, False),
    (ChatCompletionRequest, {"messages": [], "n": 0}, False),
    (ChatCompletionRequest, {"messages": [], "tools": [{"type": "function", "function": {}}]}, False),
    (CompletionRequest, {"prompt": [[1, 2], [3]]}, True),
    (CompletionRequest, {"prompt": ["a", 1]}, False),
    (CompletionRequest, {"prompt": []}, False),
    (EmbeddingRequest, {"input": ""}, False),
    (EmbeddingRequest, {"input": "a", "encoding_format": "base64"}, True),
]


@pytest.mark.parametrize(("request_type", "body", "valid"), BODIES)
def test_schemas_say_what_is_read(document, request_type, body, valid):
    from jsonschema import Draft202012Validator

    body = {"model": "tiny"} | body
    schema = {**document, "$ref": f"#/components/schemas/{request_type.__name__}"}
    assert Draft202012Validator(schema).is_valid(body) == valid
    if valid:
        request_type.parse(body)
    else:
        with pytest.raises(RefusedRequest, match=r"Invalid|Missing"):
            request_type.parse(body)
