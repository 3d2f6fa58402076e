"""From requests to orders: what engines are asked, what they cannot do, and what filters and caches see."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serving.scripted import (
    EVERYTHING,
    HERMES_TEMPLATE,
    ScriptedEngine,
    prose_tokenizer,
    served_by,
    with_template,
)

from heliostat.serving.api.cache_view import cache_view
from heliostat.serving.api.chat_request import ChatCompletionRequest
from heliostat.serving.api.errors import RefusedRequest
from heliostat.serving.api.orders import estimated_prompt_tokens, prepare
from heliostat.serving.api.plain_answers import embedding_prompts
from heliostat.serving.api.reviewing import input_texts, with_texts
from heliostat.serving.api.text_requests import CompletionRequest, EmbeddingRequest
from heliostat.serving.api.tool_syntax import HERMES, LLAMA, MISTRAL, syntax_of
from heliostat.serving.engines.interface import Capabilities, Grammar
from heliostat.text.chat import render_prompt

pytestmark = pytest.mark.heavy
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 日本?"}]
FUNCTION = {
    "name": "weather",
    "description": "Tells it",
    "parameters": {"type": "object", "$defs": {"a": {}}},
}
TOOL = {"type": "function", "function": FUNCTION}
OTHER = {"type": "function", "function": {"name": "time"}}


def chat(**changes) -> ChatCompletionRequest:
    return ChatCompletionRequest.parse({"model": "tiny", "messages": MESSAGES} | changes)


def completion(prompt, **changes) -> CompletionRequest:
    return CompletionRequest.parse({"model": "tiny", "prompt": prompt} | changes)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return prose_tokenizer(tmp_path_factory.mktemp("prose"))


@pytest.fixture(scope="module")
def model(tokenizer):
    return served_by(ScriptedEngine(with_template(tokenizer, HERMES_TEMPLATE), ["Hi"]))


def able(model, **changes):
    """The model with an engine that can do less."""
    return replace(model, engine=replace(model.engine, capabilities=replace(EVERYTHING, **changes)))


@pytest.mark.parametrize(
    ("asked", "changes", "param"),
    [
        ({"presence_penalty": 1}, {"penalties": False}, "presence_penalty"),
        ({"frequency_penalty": -1}, {"penalties": False}, "frequency_penalty"),
        ({"repetition_penalty": 1.1}, {"repetition_penalty": False}, "repetition_penalty"),
        ({"min_p": 0.1}, {"min_p": False}, "min_p"),
        ({"logit_bias": {"5": 1}}, {"logit_bias": False}, "logit_bias"),
        ({"logprobs": True}, {"max_top_logprobs": None}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 2}, {"max_top_logprobs": 1}, "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, {"grammar": False}, "response_format"),
        ({"tools": [TOOL], "tool_choice": "required"}, {"grammar": False}, "tool_choice"),
    ],
)
def test_what_an_engine_cannot_do_is_refused_by_name_and_what_it_can_is_not(model, asked, changes, param):
    with pytest.raises(RefusedRequest) as caught:
        prepare(chat(**asked), able(model, **changes))
    assert (caught.value.status, caught.value.code) == (400, "unsupported_parameter")
    assert caught.value.param == param
    prepare(chat(**asked), model)


def test_neutral_values_need_no_ability(model):
    neutral = {
        "presence_penalty": 0,
        "repetition_penalty": 1,
        "min_p": 0,
        "logit_bias": {},
        "logprobs": False,
    }
    plain = replace(model, engine=replace(model.engine, capabilities=Capabilities()))
    prepare(chat(**neutral, response_format={"type": "text"}, tool_choice="none"), plain)


def test_wishes_reach_the_engine_in_its_words(model):
    asked = chat(
        temperature=0,
        top_k=-1,
        min_p=0.1,
        presence_penalty=1,
        seed=-1,
        stop=["a", "b"],
        stop_token_ids=[7],
        logit_bias={"5": -100},
        logprobs=True,
        top_logprobs=3,
        max_completion_tokens=9,
        response_format={"type": "json_object"},
    )
    (order,) = prepare(asked, replace(model, adapter="law")).orders
    wanted = order.parameters
    assert (wanted.temperature, wanted.top_k, wanted.min_p, wanted.presence_penalty) == (0, 0, 0.1, 1)
    assert (wanted.seed, wanted.logprobs, wanted.max_tokens) == (2**63 - 1, 3, 9)
    assert wanted.logit_bias == ((5, -100),)
    assert wanted.stop_token_ids == (model.tokenizer.eos_token_id, 7)
    assert wanted.grammar == Grammar("json_object")
    assert (order.stops, order.adapter) == (("a", "b"), "law")
    assert order.prompt_ids == render_prompt(MESSAGES, model.tokenizer)


@pytest.mark.parametrize("key", ["", "a", "-1", "1.5", "٣", "600", "9" * 30, " 1"])
def test_a_bias_for_no_token_is_refused(model, key):
    with pytest.raises(RefusedRequest) as caught:
        prepare(chat(logit_bias={key: 1}), model)
    assert caught.value.param == "logit_bias"


def test_choices_differ_by_their_seeds_and_share_a_prompt(model):
    job = prepare(chat(n=3, seed=2**63 - 1), model)
    assert [order.parameters.seed for order in job.orders] == [2**63 - 1, 0, 1]
    assert job.prompt_tokens == len(job.orders[0].prompt_ids)
    assert [order.parameters.seed for order in prepare(chat(n=2), model).orders] == [None, None]


def test_each_prompt_has_its_choices_behind_each_other(model):
    ids = model.tokenizer.encode("one")
    job = prepare(completion(["one", "two"], n=2, echo=True), model)
    assert [order.prompt_ids == ids for order in job.orders] == [True, True, False, False]
    assert job.echoes == ("one", "one", "two", "two")
    assert job.prompt_tokens == sum(len(model.tokenizer.encode(text)) for text in ("one", "two"))
    assert prepare(completion(ids), model).orders[0].prompt_ids == ids
    assert prepare(completion(""), model).orders[0].prompt_ids == [model.tokenizer.bos_token_id]


def test_an_id_beyond_the_vocabulary_is_refused(model):
    with pytest.raises(RefusedRequest, match="beyond the vocabulary's 600"):
        prepare(completion([5, 600]), model)


@pytest.mark.parametrize(
    "request_of", [lambda text: chat(messages=[{"role": "user", "content": text}]), completion]
)
def test_a_context_that_is_too_long_names_both_numbers(model, request_of):
    with pytest.raises(RefusedRequest, match=r"is 2000 tokens.*: the \w+ takes? \d+") as caught:
        prepare(request_of("日" * 2**18), model)
    assert caught.value.code == "context_length_exceeded"


def test_a_default_limit_gives_way_to_the_context(model):
    tight = replace(model, max_context_tokens=len(render_prompt(MESSAGES, model.tokenizer)) + 3)
    assert prepare(chat(), tight).orders[0].parameters.max_tokens == 3


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_longer_answer_than_the_endpoint_gives_is_refused_under_its_name(model, name):
    with pytest.raises(RefusedRequest, match="at most 1000") as caught:
        prepare(chat(**{name: 1001}), model)
    assert caught.value.param == name


def test_where_answers_are_filtered_there_are_no_logprobs(model):
    with pytest.raises(RefusedRequest, match="filters its answers"):
        prepare(chat(logprobs=True), model, filtered=True)


def test_a_template_without_tools_says_so(tokenizer, model):
    with pytest.raises(RefusedRequest, match="chat template has no tools") as caught:
        prepare(chat(tools=[TOOL]), replace(model, tokenizer=tokenizer))
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "tools")
    prepare(chat(tools=[TOOL], tool_choice="none"), replace(model, tokenizer=tokenizer))


@pytest.mark.parametrize(("known", "odd"), [("tool_call>", "odd>"), ('{"name": "', "<function=")])
def test_a_form_of_calls_that_is_not_known_is_refused(model, known, odd):
    odd = with_template(model.tokenizer, HERMES_TEMPLATE.replace(known, odd))
    with pytest.raises(RefusedRequest, match="not known"):
        prepare(chat(tools=[TOOL]), replace(model, tokenizer=odd))


def test_tools_are_rendered_as_training_rendered_them(model):
    messages = [
        *MESSAGES,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city": "日"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "Sunny"},
    ]
    (order,) = prepare(chat(messages=messages, tools=[TOOL]), model).orders
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "日"}}}
    trained = [
        *MESSAGES,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "Sunny"},
    ]
    assert order.prompt_ids == render_prompt(trained, model.tokenizer, [TOOL])


def test_filters_read_all_that_the_model_reads_and_can_change_it(model):
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "name": "weather", "content": "Sunny"},
    ]
    asked = chat(messages=messages, tools=[TOOL])
    texts = input_texts(asked, model.tokenizer)
    assert texts[:5] == ["Be brief.", "a", "b", "{}", "Sunny"]
    assert texts[5] == "weather"
    assert '"description":"Tells it"' in texts[6]
    assert with_texts(asked, texts, model.tokenizer) is asked
    texts[1], texts[3], texts[6] = "X", '{"a":1}', texts[6].replace("Tells it", "[CUT]")
    changed = with_texts(asked, texts, model.tokenizer)
    assert input_texts(changed, model.tokenizer) == texts
    assert changed.tools[0].function.description == "[CUT]"
    texts[6] = texts[6][:-1]
    with pytest.raises(RefusedRequest, match="a filter changed it"):
        with_texts(asked, texts, model.tokenizer)


def test_schemas_of_answers_are_read_too(model):
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"description": "secret"}}}
    asked = chat(response_format=schema)
    texts = input_texts(asked, model.tokenizer)
    assert texts[-1] == '{"description":"secret"}'
    changed = with_texts(asked, [*texts[:-1], '{"description":"*"}'], model.tokenizer)
    assert changed.response_format.json_schema.json_schema == {"description": "*"}


def test_token_ids_hide_nothing_from_filters(model):
    ids = model.tokenizer.encode("my secret")
    for asked in (
        completion(ids),
        completion([ids]),
        EmbeddingRequest.parse({"model": "tiny", "input": [ids, ids]}),
    ):
        texts = input_texts(asked, model.tokenizer)
        assert set(texts) == {"my secret"}
        changed = with_texts(asked, [text.replace("secret", "[X]") for text in texts], model.tokenizer)
        assert set(input_texts(changed, model.tokenizer)) == {"my [X]"}


def test_an_estimate_of_tokens_is_there_before_tokenizing(model):
    asked = chat()
    estimate = estimated_prompt_tokens(asked, input_texts(asked, model.tokenizer))
    assert 10 <= estimate <= len(render_prompt(MESSAGES, model.tokenizer))


@pytest.mark.parametrize(
    ("changes", "repeatable", "fits"),
    [
        ({}, False, True),
        ({"temperature": 0}, True, True),
        ({"top_k": 1}, True, True),
        ({"seed": 5}, True, True),
        ({"temperature": 0, "n": 2}, True, False),
        ({"temperature": 0, "logprobs": True}, True, False),
    ],
)
def test_caches_know_what_may_be_kept(model, changes, repeatable, fits):
    view = cache_view(prepare(chat(**changes), model))
    assert (view.repeatable, view.fits) == (repeatable, fits)
    assert (view.system_prompt, view.conversation) == ("Be brief.", (("user", "What is 日本?"),))


def test_all_that_decides_an_answer_is_in_its_cache_key_and_nothing_else(model):
    base = cache_view(prepare(chat(), model)).parameters
    same = {"user": "a", "stream": True, "store": True, "presence_penalty": 0, "stop": []}
    assert cache_view(prepare(chat(**same), model)).parameters == base
    for changes in (
        {"temperature": 0.5},
        {"max_tokens": 5},
        {"stop": ["a"]},
        {"tools": [TOOL]},
        {"seed": 1},
        {"response_format": {"type": "json_object"}},
        {"tools": [TOOL], "tool_choice": "required"},
        {"logit_bias": {"1": 1}},
    ):
        assert cache_view(prepare(chat(**changes), model)).parameters != base


def test_prompts_to_embed_have_bounds(model):
    asked = EmbeddingRequest.parse({"model": "tiny", "input": ["a", "b" * 20_000]})
    with pytest.raises(RefusedRequest, match="input 1 takes"):
        embedding_prompts(asked, model)
    with pytest.raises(RefusedRequest, match="no embeddings"):
        embedding_prompts(asked, able(model, embeddings=False))


@pytest.mark.parametrize(
    ("template", "syntax"),
    [
        (HERMES_TEMPLATE, HERMES),
        ("{% if tools %}{% endif %}[TOOL_CALLS]", MISTRAL),
        ('{% if tools %}Respond in the format {"name": function name, "parameters": dictionary of', LLAMA),
        ({"default": "plain", "tool_use": HERMES_TEMPLATE}, HERMES),
    ],
)
def test_the_form_of_calls_is_found_in_the_template(tokenizer, template, syntax):
    assert syntax_of(with_template(tokenizer, template)) is syntax


def test_forced_calls_are_held_by_a_grammar(model):
    import json

    def grammar(**changes):
        (order,) = prepare(chat(tools=[TOOL, OTHER], **changes), model).orders
        return order.parameters.grammar and json.loads(order.parameters.grammar.schema)

    assert grammar() is None
    required = grammar(tool_choice="required")
    assert (required["type"], required["minItems"]) == ("array", 1)
    names = [call["properties"]["name"]["const"] for call in required["items"]["anyOf"]]
    assert names == ["weather", "time"]
    assert required["$defs"] == {"a": {}}
    named = grammar(tool_choice={"type": "function", "function": {"name": "time"}})
    assert named["properties"] == {"name": {"const": "time"}, "arguments": {"type": "object"}}
    single = grammar(tool_choice="required", parallel_tool_calls=False)
    assert len(single["anyOf"]) == 2


def test_two_meanings_of_one_definition_are_refused(model):
    other = {
        "type": "function",
        "function": {"name": "b", "parameters": {"definitions": {"a": {"type": "null"}}}},
    }
    with pytest.raises(RefusedRequest, match="define 'a' differently"):
        prepare(chat(tools=[TOOL, other], tool_choice="required"), model)


FIELDS = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries({"role": st.just("user"), "content": st.text()}), min_size=1
        )
    },
    optional={
        "n": st.integers(1, 3),
        "seed": st.integers(-(2**63), 2**63 - 1),
        "temperature": st.floats(0, 2),
        "top_p": st.floats(0, 1, exclude_min=True),
        "top_k": st.integers(-1, 2**40),
        "min_p": st.floats(0, 1),
        "repetition_penalty": st.floats(0, 2, exclude_min=True),
        "max_tokens": st.integers(1, 2**40),
        "stop": st.lists(st.text(max_size=5), max_size=4),
        "logit_bias": st.dictionaries(
            st.text(max_size=3) | st.integers(0, 700).map(str), st.floats(-100, 100)
        ),
        "logprobs": st.booleans(),
        "top_logprobs": st.integers(0, 20),
        "tools": st.just([TOOL]) | st.just([TOOL, OTHER]) | st.just([]),
        "tool_choice": st.sampled_from(["none", "auto", "required"]),
        "parallel_tool_calls": st.booleans(),
        "response_format": st.sampled_from([{"type": "text"}, {"type": "json_object"}]),
    },
)


@given(body=FIELDS)
def test_whatever_is_read_is_ordered_or_refused_and_the_order_can_be_sent(model, body):
    try:
        asked = chat(**body)
        job = prepare(asked, model)
    except RefusedRequest:
        return
    orjson.dumps([order.parameters for order in job.orders])
    orjson.dumps(cache_view(job).parameters)
    assert all(len(order.prompt_ids) + order.parameters.max_tokens <= 2000 for order in job.orders)
