"""Requests in OpenAI's form: what is accepted, what is refused and how. Worst inputs first."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heliostat.serving.api.chat_request import ChatCompletionRequest
from heliostat.serving.api.errors import RefusedRequest, error_body
from heliostat.serving.api.protocol import UNSERVED, decode_body
from heliostat.serving.api.text_requests import (
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    TokenizeRequest,
)

ASKED = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
REQUESTS = [ChatCompletionRequest, CompletionRequest, EmbeddingRequest, TokenizeRequest, DetokenizeRequest]
FIELDS = sorted({name for request in REQUESTS for name in request.model_fields} | set(UNSERVED))


def refusal(**changes) -> RefusedRequest:
    with pytest.raises(RefusedRequest) as caught:
        ChatCompletionRequest.parse(ASKED | changes)
    assert caught.value.status == 400
    assert isinstance(caught.value.code, str)
    return caught.value


def refused(request_type, body) -> RefusedRequest | None:
    try:
        request_type.parse(body)
    except RefusedRequest as error:
        return error
    return None


def deep(levels: int) -> dict:
    value: dict = {}
    for _ in range(levels):
        value = {"properties": value}
    return value


ODD_VALUES = [
    True,
    False,
    -1,
    0,
    2**63,
    -(2**70),
    1e308,
    float("nan"),
    float("inf"),
    "",
    "5",
    "\ud800",
    "x" * 2**20,
    [],
    [[]],
    [None],
    ["\ud800"],
    [1, "a"],
    {},
    {"type": "function"},
    {"a": float("nan")},
    deep(300),
    [deep(300)],
]


@pytest.mark.parametrize("request_type", REQUESTS)
def test_a_wrong_type_anywhere_is_a_400_that_is_short_and_can_be_sent(request_type):
    whole = {
        "model": "m",
        "messages": ASKED["messages"],
        "prompt": "p",
        "input": "i",
        "tokens": [1],
        "tools": [TOOL],
    }
    base = {field: value for field, value in whole.items() if field in request_type.model_fields}
    if request_type is TokenizeRequest:
        del base["messages"]
    for name, value in itertools.product(FIELDS, ODD_VALUES):
        error = refused(request_type, base | {name: value})
        if error:
            assert error.status == 400
            assert len(json.dumps(error.body, ensure_ascii=False).encode()) < 1000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(body=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4), place=st.integers(0, 4))
def test_any_object_is_read_or_refused(body, place):
    error = refused(REQUESTS[place], ASKED | {"prompt": "p", "input": "i", "tokens": []} | body)
    assert error is None or error.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[1]",
        b'"text"',
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 2000 + b"1" + b"}" * 2000,
        b'{"temperature": NaN}',
        b'{"temperature": Infinity}',
        b'{"model": "\\ud800"}',
        b'{"model": "\xed\xa0\x80"}',
        b'{"n": 01}',
        b'{"a": 1,}',
    ],
)
def test_what_is_no_strict_json_object_is_refused(body):
    with pytest.raises(RefusedRequest) as caught:
        decode_body(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


def test_an_endless_number_is_no_count():
    body = decode_body(b'{"seed": 123456789012345678901234567890}')
    assert refusal(**body).param == "seed"


def test_unknown_fields_and_harmless_values_are_accepted():
    neutral = {name: values[-1] for name, values in UNSERVED.items()}
    harmless = {"user": "me", "store": False, "metadata": {"a": "b"}, "service_tier": "auto", "x": [1]}
    request = ChatCompletionRequest.parse(ASKED | neutral | harmless)
    assert request.model == "tiny"
    assert ChatCompletionRequest.parse(ASKED | dict.fromkeys(UNSERVED)).stops == ()


def test_null_is_as_good_as_nothing():
    fields = ChatCompletionRequest.model_fields.keys() - {"model", "messages"}
    request = ChatCompletionRequest.parse(ASKED | dict.fromkeys(fields))
    assert (request.stops, request.num_logprobs, request.tools_in_use) == ((), None, ())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("functions", [{}]),
        ("function_call", {"name": "f"}),
        ("modalities", ["text", "audio"]),
        ("reasoning_effort", "high"),
        ("best_of", 3),
        ("min_tokens", 5),
        ("guided_json", {}),
        ("continue_final_message", True),
    ],
)
def test_what_would_change_the_answer_and_is_not_served_is_named(name, value):
    error = refusal(**{name: value})
    assert (error.code, error.param) == ("unsupported_parameter", name)
    assert f"'{name}'" in str(error)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": "0.5"}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"presence_penalty": -2.5}, "presence_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 5.5}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"seed": 2**63}, "seed"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"content": "Hi"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "messages.0.content.0.type"),
        ({"stream": "often"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ["a", 5]}, "stop.1"),
        ({"stop": 5}, "stop"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": {"x" * 500: "a"}}, "logit_bias." + "x" * 80),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_object"}, "tools": [TOOL]}, "response_format"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": deep(70)}}]}, "tools.0"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "often"}, "tool_choice"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "none"}}},
            "tool_choice",
        ),
    ],
)
def test_a_wrong_value_names_its_field(changes, param):
    assert refusal(**changes).param == param


def test_a_value_of_several_kinds_names_them_all():
    assert "string or a valid list" in str(refusal(stop=5))


def test_a_missing_field_has_openais_code():
    with pytest.raises(RefusedRequest) as caught:
        ChatCompletionRequest.parse({"messages": []})
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", "model")


def test_the_newer_name_of_the_limit_wins():
    request = ChatCompletionRequest.parse(ASKED | {"max_tokens": 5, "max_completion_tokens": 7})
    assert request.asked_max_tokens == 7


def test_stop_may_be_one_string_or_several_and_each_counts_once():
    assert ChatCompletionRequest.parse(ASKED | {"stop": "END"}).stops == ("END",)
    assert ChatCompletionRequest.parse(ASKED | {"stop": ["a", "", "b", "a"]}).stops == ("a", "b")
    assert ChatCompletionRequest.parse(ASKED | {"stop": ""}).stops == ()


def test_negative_seeds_and_switched_off_samplers_are_fine():
    request = ChatCompletionRequest.parse(ASKED | {"seed": -1, "top_k": -1, "temperature": 0, "min_p": 0})
    assert (request.seed, request.top_k) == (-1, -1)


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ("a",)),
        ("", ("",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
    ],
)
def test_prompts_are_strings_or_ids_one_or_several(prompt, prompts):
    assert CompletionRequest.parse({"model": "m", "prompt": prompt}).prompts == prompts


@pytest.mark.parametrize("prompt", [[], [[]], ["a", 1], [1, "a"], [["a"]], [-1], [1.5], [2**40], {}, None, 5])
def test_other_prompts_are_refused(prompt):
    with pytest.raises(RefusedRequest) as caught:
        CompletionRequest.parse({"model": "m", "prompt": prompt})
    assert str(caught.value.param).startswith("prompt")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"prompt": ["a"] * 65, "n": 2}, "prompt"),
    ],
)
def test_completions_refuse_what_they_do_not_serve(changes, param):
    with pytest.raises(RefusedRequest) as caught:
        CompletionRequest.parse({"model": "m", "prompt": "p"} | changes)
    assert caught.value.param == param


@pytest.mark.parametrize("given_input", ["", [], [""], ["a", ""], [[]]])
def test_nothing_cannot_be_embedded(given_input):
    with pytest.raises(RefusedRequest):
        EmbeddingRequest.parse({"model": "m", "input": given_input})


def test_either_a_prompt_or_messages_are_tokenized():
    for body in ({}, {"prompt": "a", "messages": ASKED["messages"]}):
        with pytest.raises(RefusedRequest, match="either"):
            TokenizeRequest.parse({"model": "m"} | body)


def test_an_error_body_is_openais():
    assert error_body("m", "t", "c") == {"error": {"message": "m", "type": "t", "param": None, "code": "c"}}
    assert RefusedRequest("down", "x", 503).body["error"]["type"] == "server_error"
