"""Requests in OpenAI's form: what is accepted, what is refused and how."""

import pytest

from heliostat.serving.api.errors import RefusedRequest, error_body
from heliostat.serving.api.prompts import check_order, to_prompt
from heliostat.serving.api.protocol import UNSERVED, ChatCompletionRequest, ChatMessage
from heliostat.serving.engines.interface import SamplingParameters

ASKED = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}


def refusal(**changes) -> RefusedRequest:
    with pytest.raises(RefusedRequest) as caught:
        ChatCompletionRequest.parse(ASKED | changes)
    assert caught.value.status == 400
    assert isinstance(caught.value.code, str)
    return caught.value


def test_unknown_fields_and_harmless_values_are_accepted():
    neutral = {name: values[-1] for name, values in UNSERVED.items()}
    request = ChatCompletionRequest.parse(ASKED | neutral | {"user": "me", "store": False, "x": [1]})
    assert request.model == "tiny"
    assert ChatCompletionRequest.parse(ASKED | dict.fromkeys(UNSERVED)).stops == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("logit_bias", {"5": 10}),
        ("presence_penalty", 0.5),
        ("frequency_penalty", -1),
        ("response_format", {"type": "json_object"}),
        ("tools", [{"type": "function"}]),
        ("tool_choice", "required"),
        ("functions", [{}]),
        ("modalities", ["text", "audio"]),
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
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": [{"content": "Hi"}]}, "messages.0.role"),
        ({"stream": "often"}, "stream"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ],
)
def test_a_wrong_value_names_its_field(changes, param):
    assert refusal(**changes).param == param


def test_a_missing_field_has_openais_code():
    with pytest.raises(RefusedRequest) as caught:
        ChatCompletionRequest.parse({"messages": []})
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", "model")


def test_the_newer_name_of_the_limit_wins():
    request = ChatCompletionRequest.parse(ASKED | {"max_tokens": 5, "max_completion_tokens": 7})
    assert request.asked_max_tokens == 7


def test_stop_may_be_one_string_or_several():
    assert ChatCompletionRequest.parse(ASKED | {"stop": "END"}).stops == ("END",)
    assert ChatCompletionRequest.parse(ASKED | {"stop": ["a", "", "b"]}).stops == ("a", "b")


def test_an_error_body_is_openais():
    assert error_body("m", "t", "c") == {"error": {"message": "m", "type": "t", "param": None, "code": "c"}}
    assert RefusedRequest("down", "x", 503).body["error"]["type"] == "server_error"


@pytest.mark.parametrize("roles", ["u", "su", "uau", "suauau"])
def test_conversations_that_end_with_the_user_are_prompts(roles):
    names = {"s": "system", "u": "user", "a": "assistant"}
    assert check_order([names[role] for role in roles]) is None


@pytest.mark.parametrize(
    ("roles", "position", "words"),
    [
        (["assistant"], 0, "'user' is due"),
        (["user", "user"], 1, "'assistant' is due"),
        (["user", "assistant"], 1, "last message"),
        (["system"], 0, "last message"),
        (["user", "system", "user"], 1, "'system' where 'assistant'"),
        (["tool"], 0, "unknown role 'tool'"),
    ],
)
def test_other_orders_say_where_and_why(roles, position, words):
    problem = check_order(roles)
    assert problem is not None
    assert problem[0] == position
    assert words in problem[1]


def test_text_parts_and_the_developer_role_are_understood():
    messages = [
        ChatMessage(role="developer", content="Be kind."),
        ChatMessage(role="user", content=[{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]),
    ]
    assert to_prompt(messages) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello"},
    ]


@pytest.mark.parametrize("content", [None, [], [{"type": "image_url", "image_url": {}}], [{"type": "text"}]])
def test_content_that_is_not_text_is_refused(content):
    with pytest.raises(RefusedRequest, match=r"messages\[0\]: content must be text"):
        to_prompt([ChatMessage(role="user", content=content)])


def test_no_messages_are_refused():
    with pytest.raises(RefusedRequest, match="'messages' is empty"):
        to_prompt([])


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("parameters", "allowed"),
    [
        (SamplingParameters(max_tokens=1, temperature=0), {1}),
        (SamplingParameters(max_tokens=1, top_k=2), {1, 3}),
        (SamplingParameters(max_tokens=1, top_p=0.6), {1}),
        (SamplingParameters(max_tokens=1, top_p=0.7), {1, 3}),
        (SamplingParameters(max_tokens=1), {0, 1, 2, 3}),
    ],
)
def test_sampling_keeps_the_tokens_it_should(parameters, allowed):
    import torch

    from heliostat.serving.engines.sampling import next_token

    logits = torch.tensor([0.1, 0.64, 0.05, 0.21]).log()
    generator = torch.Generator().manual_seed(0)
    assert {next_token(logits, parameters, generator) for _ in range(300)} == allowed


def test_sampling_follows_the_probabilities():
    import torch

    from heliostat.serving.engines.sampling import next_token

    logits = torch.tensor([0.2, 0.8]).log()
    generator = torch.Generator().manual_seed(0)
    drawn = [next_token(logits, SamplingParameters(max_tokens=1), generator) for _ in range(4000)]
    assert sum(drawn) / len(drawn) == pytest.approx(0.8, abs=0.03)
    cold = SamplingParameters(max_tokens=1, temperature=0.5)  # squares the odds: 16 to 1
    drawn = [next_token(logits, cold, generator) for _ in range(4000)]
    assert sum(drawn) / len(drawn) == pytest.approx(16 / 17, abs=0.02)
