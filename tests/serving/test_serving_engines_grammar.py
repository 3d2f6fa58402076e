"""JSON schemas as grammars: what is taken, what is refused, and that answers keep to them."""

import json
import random
import re
import time

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serving.asking import collect

from heliostat.errors import ServingError
from heliostat.serving.engines.integer_ranges import integers
from heliostat.serving.engines.interface import Grammar, SamplingParameters
from heliostat.serving.engines.json_grammar import check_grammar

PERSON = {
    "title": "Person",
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "mood": {"enum": ["good", 'so "so"', None, 3, True]},
        "when": {"type": "string", "format": "date"},
        "friend": {"anyOf": [{"$ref": "#/$defs/Friend"}, {"type": "null"}]},
        "scores": {"type": "array", "items": {"type": ["integer", "null"]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "age", "mood", "scores"],
    "additionalProperties": False,
    "$defs": {
        "Friend": {
            "type": "object",
            "properties": {"name": {"const": "Ann"}, "friend": {"$ref": "#/$defs/Friend"}},
            "required": ["name"],
            "additionalProperties": False,
        }
    },
}
LOOP = {"$defs": {"a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}
ROUND = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
REFUSED = {
    "no JSON": ('{"type":', "not JSON"),
    "NaN": ('{"const": NaN}', "not JSON"),
    "a list": ("[1]", "must be an object"),
    "nothing allowed": ("false", "must be an object"),
    "an unknown type": ('{"type": "foo"}', "unknown"),
    "a pattern": ('{"type": "string", "pattern": "(a+)+"}', "'pattern'"),
    "uniqueItems": ('{"type": "array", "uniqueItems": true}', "'uniqueItems'"),
    "not": ('{"not": {}}', "'not'"),
    "a bound without a type": ('{"minimum": 3}', "'minimum'"),
    "a bounded number": ('{"type": ["number", "integer"], "minimum": 3}', "only integers"),
    "an empty enum": ('{"enum": []}', "allows no value"),
    "an enum of another type": ('{"type": "string", "enum": [1]}', "allows no value"),
    "an empty range": ('{"type": "integer", "minimum": 5, "maximum": 1}', "allows no integer"),
    "an endless string": ('{"type": "string", "maxLength": 100000}', "up to"),
    "a wrong length": ('{"type": "string", "minLength": "3"}', "whole number"),
    "lengths the wrong way": ('{"type": "array", "minItems": 3, "maxItems": 1}', "above"),
    "a far reference": ('{"$ref": "http://example.com/x"}', "not local"),
    "a dead reference": ('{"$ref": "#/$defs/x"}', "points to nothing"),
    "itself": ('{"$ref": "#"}', "refers to itself"),
    "a loop": (json.dumps(LOOP), "refers to itself"),
    "a round": (json.dumps(ROUND), "refers to itself"),
    "a requirement that is no name": ('{"type": "object", "required": [["a"]]}', "in a wrong form"),
    "a required stranger": ('{"required": ["a"], "additionalProperties": false}', "does not allow"),
    "several allOf": ('{"allOf": [{"type": "string"}, {"type": "integer"}]}', "several members"),
    "deep": (json.dumps('{"a": ' * 0) and '{"items": ' * 2000 + "{}" + "}" * 2000, "not JSON|deep"),
    "deep but short": ('{"items": ' * 200 + "{}" + "}" * 200, "deep"),
    "wide": (
        json.dumps(
            {"properties": {f"k{i}": {} for i in range(999)}, "required": [f"k{i}" for i in range(999)]}
        ),
        "grammar rules",
    ),
    "all optional": (json.dumps({"properties": {f"k{i}": {} for i in range(65)}}), "left out"),
    "long": (json.dumps({"enum": ["x" * 100_000]}), "longer than"),
    "many choices": (json.dumps({"enum": list(range(3000))}), "members"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused_at_once_in_one_line(name):
    schema, reason = REFUSED[name]
    started = time.process_time()
    found = check_grammar(Grammar("json_schema", schema))
    assert found
    assert re.search(reason, found)
    assert "\n" not in found
    assert time.process_time() - started < 0.5


def test_what_pydantic_writes_is_taken():
    assert check_grammar(Grammar("json_schema", json.dumps(PERSON))) is None
    assert check_grammar(Grammar("json_object")) is None


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "items", "enum", "anyOf", "$ref", "required", "minItems", "a"]
            ),
            inner | st.sampled_from(["object", "array", "string", "#", "#/a", ["integer", "null"]]),
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(ANY)
def test_any_json_is_taken_or_refused(schema):
    check_grammar(Grammar("json_schema", json.dumps(schema)))


BOUND = st.none() | st.integers(-2000, 2000) | st.integers(-(10**17), 10**17)


@given(BOUND, BOUND, st.lists(st.integers(-2100, 2100), min_size=5, max_size=30))
def test_a_range_of_integers_matches_what_lies_in_it(low, high, numbers):
    pattern = "|".join(
        re.sub(r'"([^"]*)"', r"\1", expression).replace(" ", "") for expression in integers(low, high)
    )
    edges = [edge + step for edge in (low, high) if edge is not None for step in (-1, 0, 1)]
    for number in [*numbers, *(edge for edge in edges if abs(edge) < 10**15)]:
        inside = (low is None or low <= number) and (high is None or number <= high)
        assert bool(pattern and re.fullmatch(pattern, str(number))) == inside


def valid(text: str, schema: object) -> bool:
    jsonschema.validate(json.loads(text), schema)
    return True


@pytest.mark.heavy
@pytest.mark.anyio
async def test_a_finished_answer_parses_and_validates(engine, tiny_tokenizer):
    prompt = tiny_tokenizer.encode("Give me JSON:")
    finished = 0
    for seed in range(12):
        parameters = SamplingParameters(
            max_tokens=400, seed=seed, grammar=Grammar("json_schema", json.dumps(PERSON))
        )
        ids, reason = await collect(engine, prompt, parameters)
        if reason == "stop":
            assert valid(tiny_tokenizer.decode(ids, skip_special_tokens=True), PERSON)
            finished += 1
    assert finished > 6


@pytest.mark.heavy
@pytest.mark.anyio
async def test_any_object_may_be_asked_for_beside_free_answers(engine, tiny_tokenizer):
    prompt = tiny_tokenizer.encode("Give me JSON:")
    free = SamplingParameters(max_tokens=30, temperature=0)
    alone = await collect(engine, prompt, free)
    seeds = random.Random(0).sample(range(1000), 12)
    asked = [SamplingParameters(max_tokens=300, seed=seed, grammar=Grammar("json_object")) for seed in seeds]
    answers = [await collect(engine, prompt, one) for one in asked]
    texts = [
        tiny_tokenizer.decode(ids, skip_special_tokens=True) for ids, reason in answers if reason == "stop"
    ]
    assert all(isinstance(json.loads(text), dict) for text in texts)
    assert all(tiny_tokenizer.decode(ids).startswith("{") for ids, _ in answers)
    assert await collect(engine, prompt, free) == alone


@pytest.mark.heavy
@pytest.mark.anyio
async def test_a_grammar_that_is_refused_ends_its_request_only(engine, tiny_tokenizer):
    prompt = tiny_tokenizer.encode("Give me JSON:")
    for schema in ('{"type":', '{"not": {}}'):
        with pytest.raises(ServingError, match="JSON schema"):
            await collect(
                engine, prompt, SamplingParameters(max_tokens=9, grammar=Grammar("json_schema", schema))
            )
    ids, _ = await collect(engine, prompt, SamplingParameters(max_tokens=9))
    assert ids
