"""A JSON schema as a grammar in EBNF (GBNF's dialect, which xgrammar reads), with bounds on its size.

The grammar's sentences all satisfy the schema, but not all that satisfy it are sentences: properties come in
the schema's order, only those it names unless it names none, and at most one space stands between tokens.
What would have to be ignored is refused. Engines that compile grammars do so between two steps of a batch,
so the bounds keep one request's schema from stalling the others.
"""

import json
import math
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

import orjson

from heliostat.errors import ServingError
from heliostat.serving.engines.integer_ranges import integers
from heliostat.serving.engines.interface import Grammar

MAX_SCHEMA_BYTES = 32 * 1024
MAX_RULES = 400
MAX_DEPTH = 64
MAX_CHOICES = 256
MAX_ITEMS = 1000
MAX_CHARACTERS = 128
MAX_OPTIONAL = 64
"""Where xgrammar is still quick. With strings of at least 256 characters, or 120 properties that may be left
out, it had not finished after 45 and 90 s; with 128 and 80 it took below 0.6 s (SmolLM2's 49,152 tokens)."""
ANNOTATIONS = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$schema", "$id"}
    | {"$comment", "$defs", "definitions", "$ref", "strict"}
)
KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "format"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "number": set[str](),
    "boolean": set[str](),
    "null": set[str](),
}
HEX = "[0-9a-fA-F]"
TWO_DIGITS = {"month": '("0" [1-9] | "1" [0-2])', "day": '("0" [1-9] | "1" [0-9] | "2" [0-8])'}
DATE = f'[0-9] [0-9] [0-9] [0-9] "-" {TWO_DIGITS["month"]} "-" {TWO_DIGITS["day"]}'
TIME = '("0" [0-9] | "1" [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? "Z"'
FORMATS = {
    "date": DATE,
    "time": TIME,
    "date-time": f'{DATE} "T" {TIME}',
    "uuid": f'{HEX}{{8}} "-" {HEX}{{4}} "-" {HEX}{{4}} "-" {HEX}{{4}} "-" {HEX}{{12}}',
}
"""Days end with 28, which every month has."""
BASE_RULES = {
    "sp": '" "?',
    # No surrogates, written or escaped: alone they stand for no character, and a decoder makes four of them.
    "char": (
        r'[ !#-\[\]-\uD7FF\uE000-\U0010FFFF] | "\\" (["\\/bfnrt] | '
        rf'"u" ([0-9a-cA-CefEF] {HEX} {HEX} {HEX} | [dD] [0-7] {HEX} {HEX}))'
    ),
    "string": r'"\"" char* "\""',
    "integer": '"-"? ("0" | [1-9] [0-9]{0,15})',
    "number": '"-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]{1,16})? ([eE] [+-]? [0-9]{1,2})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "value": "object | array | string | number | boolean | null",
    "object": '"{" sp (string sp ":" sp value ("," sp string sp ":" sp value)*)? "}"',
    "array": '"[" sp (value ("," sp value)*)? "]"',
}


def check_grammar(grammar: Grammar) -> str | None:
    """Why engines refuse this grammar, or None; takes a few milliseconds at most."""
    try:
        to_ebnf(grammar)
    except ServingError as error:
        return str(error)
    return None


def to_ebnf(grammar: Grammar) -> str:
    """The grammar's rules, one a line, of which "root" is the answer.

    Raises:
        ServingError: the schema is no schema, has keywords that cannot be kept, or is too large.
    """
    rules = _Rules(_parse(grammar))
    return "\n".join(f"{name} ::= {body}" for name, body in rules.build().items())


def _parse(grammar: Grammar) -> Any:
    if grammar.kind == "json_object":
        return {"type": "object"}
    if len(grammar.schema.encode()) > MAX_SCHEMA_BYTES:
        raise ServingError(f"the JSON schema is longer than {MAX_SCHEMA_BYTES} bytes; give a smaller one")
    try:
        return orjson.loads(grammar.schema)
    except orjson.JSONDecodeError as error:
        raise ServingError(f"the JSON schema is not JSON: {error}") from None


class _Rules:
    """Turns a schema into rules; `where` is a JSON pointer for messages.

    `within` is the pointer whose rule is being written while nothing is in it yet: what is referred to there
    follows it without a character between.
    """

    def __init__(self, schema: Any) -> None:
        self._whole = schema
        self._rules: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._follows: dict[str, set[str]] = {}
        self._num_choices = 0
        self._depth = 0

    def build(self) -> dict[str, str]:
        root = self._named("#", None)
        try:
            TopologicalSorter(self._follows).prepare()
        except CycleError as error:
            raise ServingError(
                f"the JSON schema's {error.args[1][0]} refers to itself with nothing between"
            ) from None
        return {"root": root} | self._rules | BASE_RULES

    def _named(self, pointer: str, within: str | None) -> str:
        """The rule of what a `$ref` points to."""
        if within:
            self._follows.setdefault(within, set()).add(pointer)
        if pointer not in self._names:
            self._names[pointer] = name = self._rule("")
            self._rules[name] = self._expression(self._resolve(pointer), pointer, pointer)
        return self._names[pointer]

    def _rule(self, body: str) -> str:
        if len(self._rules) >= MAX_RULES:
            raise ServingError(
                f"the JSON schema needs more than {MAX_RULES} grammar rules; give one with fewer properties"
            )
        name = f"r{len(self._rules)}"
        self._rules[name] = body
        return name

    def _resolve(self, pointer: str) -> Any:
        found = self._whole
        if pointer != "#" and not pointer.startswith("#/"):
            raise ServingError(f"the JSON schema's $ref {pointer!r} is not local; put what it names in $defs")
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or key not in found:
                raise ServingError(f"the JSON schema's $ref {pointer!r} points to nothing")
            found = found[key]
        return found

    def _expression(self, schema: Any, where: str, within: str | None) -> str:
        """A grammar expression for a schema."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ServingError(f"the JSON schema is nested more than {MAX_DEPTH} deep")
        expression = self._inner(schema, where, within)
        self._depth -= 1
        return expression

    def _inner(self, schema: Any, where: str, within: str | None) -> str:
        if schema is True:
            return "value"
        if not isinstance(schema, dict):
            raise ServingError(f"the JSON schema's {where} must be an object that allows something")
        for keyword in ("$ref", "anyOf", "allOf"):
            if keyword in schema:
                _only(schema, {keyword}, where)
                return self._combined(keyword, schema[keyword], f"{where}/{keyword}", within)
        if "const" in schema or "enum" in schema:
            return self._choices(schema, where)
        kinds = _as_list(schema.get("type")) or _implied_types(schema)
        if not kinds:
            _only(schema, set(), where)
            return "value"
        if not all(isinstance(kind, str) and kind in KEYWORDS for kind in kinds):
            raise ServingError(f"the JSON schema's {where}/type {schema['type']!r} is unknown")
        _only(schema, {"type"}.union(*(KEYWORDS[kind] for kind in kinds)), where)
        return _alternatives(getattr(self, f"_{kind}")(schema, where) for kind in kinds)

    def _combined(self, keyword: str, given: Any, where: str, within: str | None) -> str:
        if keyword == "$ref":
            if not isinstance(given, str):
                raise ServingError(f"the JSON schema's {where} must be a string")
            return self._named(given, within)
        if not isinstance(given, list) or not given:
            raise ServingError(f"the JSON schema's {where} must be a list with something in it")
        if keyword == "allOf" and len(given) > 1:
            raise ServingError(f"the JSON schema's {where} has several members, which is not supported")
        self._count_choices(len(given))
        return _alternatives(
            self._expression(part, f"{where}/{place}", within) for place, part in enumerate(given)
        )

    def _choices(self, schema: dict[str, Any], where: str) -> str:
        _only(schema, {"const", "enum", "type"}, where)
        values = [schema["const"]] if "const" in schema else schema["enum"]
        if not isinstance(values, list):
            raise ServingError(f"the JSON schema's {where}/enum must be a list")
        kinds = _as_list(schema.get("type"))
        fitting = [value for value in values if not kinds or _has_type(value, kinds)]
        if not fitting:
            raise ServingError(f"the JSON schema's {where} allows no value")
        self._count_choices(len(fitting))
        return _alternatives(_literal(json.dumps(value, ensure_ascii=False)) for value in fitting)

    def _count_choices(self, number: int) -> None:
        self._num_choices += number
        if self._num_choices > MAX_CHOICES:
            raise ServingError(
                f"the JSON schema has more than {MAX_CHOICES} members in enum and anyOf together"
            )

    def _child(self, schema: Any, where: str) -> str:
        """The rule of a schema that stands behind something written."""
        expression = self._expression(schema, where, None)
        return expression if expression.isidentifier() else self._rule(expression)

    def _object(self, schema: dict[str, Any], where: str) -> str:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        in_form = isinstance(properties, dict) and isinstance(required, list)
        if not in_form or not all(isinstance(key, str) for key in required):
            raise ServingError(f"the JSON schema's {where} has properties or required in a wrong form")
        others = schema.get("additionalProperties", True)
        unnamed = {key: others for key in required if key not in properties}
        if unnamed and others is False:
            raise ServingError(f"the JSON schema's {where} requires {min(unnamed)!r} but does not allow it")
        named = properties | unnamed
        if len(named.keys() - set(required)) > MAX_OPTIONAL:
            raise ServingError(
                f"the JSON schema's {where} has more than {MAX_OPTIONAL} properties that may be left out; "
                "require them"
            )
        if named:
            rules = {key: self._child(part, f"{where}/properties/{key}") for key, part in named.items()}
            return f'"{{" sp {self._members(rules, set(required))} "}}"'
        if others is False:
            return '"{" sp "}"'
        pair = f'string sp ":" sp {self._child(others, f"{where}/additionalProperties")}'
        return f'"{{" sp ({pair} ("," sp {pair})*)? "}}"'

    def _members(self, rules: Mapping[str, str], required: set[str]) -> str:
        """Members in order with commas between, of which those not required may be left out.

        From each place on there are two rules: with a member in front, which needs a comma, and without.
        """
        first = more = '""'
        for key, rule in reversed(list(rules.items())):
            member = f'{_literal(json.dumps(key, ensure_ascii=False))} sp ":" sp {rule} {more}'
            skip_first, skip_more = ("", "") if key in required else (f" | {first}", f" | {more}")
            first, more = self._rule(member + skip_first), self._rule(f'"," sp {member}{skip_more}')
        return first

    def _array(self, schema: dict[str, Any], where: str) -> str:
        low, high = _bounds(schema, ("minItems", "maxItems"), MAX_ITEMS, where)
        item = self._child(schema.get("items", True), f"{where}/items")
        if high == 0:
            return '"[" sp "]"'
        tail = f'("," sp {item}){_times(max(low - 1, 0), None if high is None else high - 1)}'
        return f'"[" sp {item} {tail} "]"' if low else f'"[" sp ({item} {tail})? "]"'

    def _string(self, schema: dict[str, Any], where: str) -> str:
        kind = schema.get("format")
        if kind is not None:
            if kind not in FORMATS or {"minLength", "maxLength"} & schema.keys():
                raise ServingError(
                    f"the JSON schema's {where}/format {kind!r} is not supported; "
                    f"known are {', '.join(sorted(FORMATS))}, without a length"
                )
            return rf'"\"" {FORMATS[kind]} "\""'
        low, high = _bounds(schema, ("minLength", "maxLength"), MAX_CHARACTERS, where)
        return "string" if (low, high) == (0, None) else rf'"\"" char{_times(low, high)} "\""'

    def _integer(self, schema: dict[str, Any], where: str) -> str:
        if not KEYWORDS["integer"] & schema.keys():
            return "integer"
        expressions = list(integers(*_integer_bounds(schema, where)))
        if not expressions:
            raise ServingError(f"the JSON schema's {where} allows no integer")
        return _alternatives(expressions)

    def _number(self, schema: dict[str, Any], where: str) -> str:
        if KEYWORDS["integer"] & schema.keys():
            raise ServingError(f"the JSON schema's {where} bounds a number; only integers can have bounds")
        return "number"

    def _boolean(self, schema: dict[str, Any], where: str) -> str:
        return "boolean"

    def _null(self, schema: dict[str, Any], where: str) -> str:
        return "null"


def _only(schema: Mapping[str, Any], known: set[str], where: str) -> None:
    for keyword in schema:
        if keyword not in known and keyword not in ANNOTATIONS:
            raise ServingError(f"the JSON schema's {where} has {keyword!r}, which is not supported here")


def _as_list(given: Any) -> list[Any]:
    if given is None:
        return []
    return given if isinstance(given, list) else [given]


def _implied_types(schema: Mapping[str, Any]) -> list[str]:
    return [kind for kind in ("object", "array") if KEYWORDS[kind] & schema.keys()]


def _has_type(value: Any, kinds: list[Any]) -> bool:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    if type(value) in names:
        return names[type(value)] in kinds
    return "number" in kinds or ("integer" in kinds and value == int(value))


def _alternatives(expressions: Iterable[str]) -> str:
    parts = list(dict.fromkeys(expressions))
    return parts[0] if len(parts) == 1 else f"({' | '.join(parts)})"


def _literal(text: str) -> str:
    """A quoted literal of the grammar; what it must escape is escaped in JSON's way."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\x7f")


def _bounds(
    schema: Mapping[str, Any], names: tuple[str, str], limit: int, where: str
) -> tuple[int, int | None]:
    low, high = names
    least, most = schema.get(low, 0), schema.get(high)
    for name, value in ((low, least), (high, most)):
        if name in schema and (type(value) is not int or not 0 <= value <= limit):
            raise ServingError(f"the JSON schema's {where}/{name} must be a whole number up to {limit}")
    if most is not None and least > most:
        raise ServingError(f"the JSON schema's {where}/{low} is above {high}")
    return least, most


def _integer_bounds(schema: Mapping[str, Any], where: str) -> tuple[int | None, int | None]:
    for name in KEYWORDS["integer"] & schema.keys():
        if type(schema[name]) not in (int, float):
            raise ServingError(f"the JSON schema's {where}/{name} must be a number")
    lows = [math.ceil(schema[name]) for name in ("minimum",) if name in schema]
    lows += [math.floor(schema[name]) + 1 for name in ("exclusiveMinimum",) if name in schema]
    highs = [math.floor(schema[name]) for name in ("maximum",) if name in schema]
    highs += [math.ceil(schema[name]) - 1 for name in ("exclusiveMaximum",) if name in schema]
    return max(lows, default=None), min(highs, default=None)


def _times(low: int, high: int | None) -> str:
    if high is None:
        return f"{{{low},}}" if low else "*"
    return f"{{{low},{high}}}"
