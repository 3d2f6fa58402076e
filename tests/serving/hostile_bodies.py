"""Bodies that no client sends, by what is wrong with them."""

import gzip
import json

from tests.serving.deployed import CHAT, QUESTION

NO_JSON = {
    "nothing": b"",
    "half an object": b'{"model": "tiny", ',
    "lists without end": b"[" * 10_000,
    "objects without end": b'{"a":' * 10_000,
    "closed lists": b"[" * 10_000 + b"]" * 10_000,
    "closed objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "not a number": b'{"model": NaN}',
    "infinity": b'{"model": -Infinity}',
    "beyond all numbers": b'{"model": 1e400}',
    "five thousand digits": b'{"model": ' + b"9" * 5000 + b"}",
    "half a pair": b'{"model": "\\ud800"}',
    "the other half": b'{"model": "\\udc00\\ud800"}',
    "half a pair as bytes": b'{"model": "\xed\xa0\x80"}',
    "invalid UTF-8": b'{"model": "\xff\xfe\x80"}',
    "overlong UTF-8": b'{"model": "\xc0\xaf"}',
    "UTF-16": json.dumps(QUESTION).encode("utf-16"),
    "a mark in front": b"\xef\xbb\xbf" + json.dumps(QUESTION).encode(),
    "NUL": b"\0" * 100,
    "NUL in a string": b'{"model": "a\0"}',
    "two values": b"{}{}",
    "a comment": b'{"model": "tiny" /* */}',
    "a list": b"[1]",
    "a string": b'"tiny"',
    "a gzip bomb": gzip.compress(b" " * 10**7),
    "XML": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "YAML": b"!!python/object/apply:os.system ['true']",
    "pickle": b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
}


def many(item: str, count: int) -> str:
    return "[" + ",".join([item] * count) + "]"


def chat(fields: str) -> str:
    return json.dumps(QUESTION)[:-1] + f", {fields}}}"


def schema(value) -> str:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": value}}
    return chat('"response_format": ' + json.dumps(wanted))


def nested(levels: int, inner=None):
    value = inner or {"type": "string"}
    for _ in range(levels):
        value = {"type": "object", "properties": {"a": value}, "required": ["a"]}
    return value


TURNS = [{"role": ("user", "assistant")[number % 2], "content": "a"} for number in range(100_001)]
ENDLESS = "x" * 10**6
TEXT = {"type": "string"}
CIRCLE = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
TWICE = {
    f"d{n}": {"type": "array", "items": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2}, "minItems": 900}
    for n in range(30)
}
DOUBLING = {"$defs": TWICE | {"d30": {"type": "null"}}, "$ref": "#/$defs/d0"}


def said(messages) -> str:
    return json.dumps(QUESTION | {"messages": messages})


def model(fields: str) -> str:
    return f'{{"model": "tiny", {fields}}}'


def deep(bracket: str, levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels if bracket == "{" else "[" * levels + "]" * levels


REFUSED = {
    "100,000 turns": (CHAT, said(TURNS)),
    "2,047 turns": (CHAT, said(TURNS[:2047])),
    "100,000 turns to tokenize": ("/tokenize", json.dumps({"model": "tiny", "messages": TURNS})),
    "a million turns that are none": (CHAT, model('"messages": ' + many("{}", 10**6))),
    "a million tools": (CHAT, chat(f'"tools": {many("{}", 10**6)}')),
    "a million parts": (CHAT, chat('"messages": [{"role": "user", "content": ' + many("{}", 10**6) + "}]")),
    "a million calls": (CHAT, chat('"messages": [{"role": "user", "tool_calls": ' + many("1", 10**6) + "}]")),
    "a million stops": (CHAT, chat(f'"stop": {many(chr(34) * 2, 10**6)}')),
    "a million wrong stops": (CHAT, chat(f'"stop": {many("0", 10**6)}')),
    "a million stop ids": (CHAT, chat(f'"stop_token_ids": {many("1", 10**6)}')),
    "300,000 biases": (CHAT, chat('"logit_bias": {' + ",".join(f'"{n}":""' for n in range(300_000)) + "}")),
    "biases of no tokens": (
        CHAT,
        chat('"logit_bias": {' + ",".join(f'"{n}":1' for n in range(300_000)) + "}"),
    ),
    "a million prompts that are none": ("/v1/completions", model('"prompt": ' + many("{}", 10**6))),
    "a million prompts": ("/v1/completions", model('"prompt": ' + many(chr(34) * 2, 10**6))),
    "a million inputs": ("/v1/embeddings", model('"input": ' + many("[1]", 10**6))),
    "a million ids too many": ("/v1/completions", model('"prompt": ' + many("1", 10**6))),
    "negative ids": ("/detokenize", model('"tokens": ' + many("-1", 10**6))),
    "huge ids": ("/detokenize", model('"tokens": ' + many("2147483647", 10**5))),
    "ids beyond 64 bits": ("/detokenize", f'{{"model": "tiny", "tokens": [{2**64}]}}'),
    "ids between": ("/detokenize", '{"model": "tiny", "tokens": [1.5]}'),
    "huge n": (CHAT, chat(f'"n": {2**62}')),
    "negative n": (CHAT, chat('"n": -1')),
    "n of a float": (CHAT, chat('"n": 1e300')),
    "many prompts times n": (
        "/v1/completions",
        json.dumps({"model": "tiny", "prompt": ["a"] * 128, "n": 128}),
    ),
    "huge max_tokens": (CHAT, chat(f'"max_tokens": {2**63}')),
    "a name without end": (CHAT, json.dumps(QUESTION | {"model": ENDLESS})),
    "a role without end": (CHAT, said([{"role": ENDLESS, "content": ""}])),
    "a speaker without end": (CHAT, said([TURNS[0] | {"name": ENDLESS}])),
    "a tool without end": (
        CHAT,
        chat('"tools": ' + json.dumps([{"type": "function", "function": {"name": ENDLESS}}])),
    ),
    "a call's id without end": (
        CHAT,
        said([TURNS[0], {"role": "tool", "content": "", "tool_call_id": ENDLESS}]),
    ),
    "a field of that name": (CHAT, chat(f'"temperature": {{"{"x" * 10**6}": 1}}')),
    "two models": (CHAT, '{"model": "tiny", "messages": [], "model": ["a"]}'),
    "deep tools": (
        CHAT,
        chat(
            '"tools": [{"type": "function", "function": {"name": "a", "parameters": ' + deep("{", 900) + "}}]"
        ),
    ),
    "deep metadata": (
        "/v1/collections/c/documents",
        '{"documents": [{"id": "a", "text": "b", "metadata": {"a": ' + deep("[", 1000) + "}}]}",
    ),
    "wide metadata": (
        "/v1/collections/c/documents",
        json.dumps({"documents": [{"id": "a", "text": "b", "metadata": {"a": ENDLESS}}]}),
    ),
    "huge top_k": ("/v1/collections/c/search", f'{{"query": "a", "top_k": {2**62}}}'),
    "a schema that is itself": (CHAT, schema({"$ref": "#"})),
    "schemas in a circle": (CHAT, schema(CIRCLE)),
    "a schema elsewhere": (CHAT, schema({"$ref": "file:///etc/passwd"})),
    "a schema on the network": (CHAT, schema({"$ref": "http://127.0.0.1:1/schema.json"})),
    "a pattern": (CHAT, schema({"type": "string", "pattern": "(a+)+$"})),
    "a pattern of names": (CHAT, schema({"type": "object", "patternProperties": {"(a+)+$": TEXT}})),
    "all of all": (CHAT, schema({"allOf": [{"anyOf": [{"type": "string"}] * 200}] * 20})),
    "a schema of 2,000 levels": (CHAT, schema(nested(300))),
    "a billion items": (CHAT, schema({"type": "array", "items": {"type": "null"}, "minItems": 10**9})),
    "a billion letters": (CHAT, schema({"type": "string", "maxLength": 10**9})),
    "a hundred thousand choices": (CHAT, schema({"enum": list(range(10**5))})),
    "ten thousand fields": (
        CHAT,
        schema({"type": "object", "properties": {f"a{n}": TEXT for n in range(10**4)}}),
    ),
    "doubling": (CHAT, schema(DOUBLING)),
}
"""What is asked where, each of some megabytes at most."""
