"""In which form a model calls tools: found in its chat template, or forced by a grammar."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from heliostat.serving.api.chat_request import ChatCompletionRequest, NamedTool, Tool
from heliostat.serving.api.errors import invalid, unsupported
from heliostat.serving.api.protocol import as_json
from heliostat.serving.api.vocabulary import vocabulary_of
from heliostat.serving.engines.interface import Grammar

ANYTHING: dict[str, Any] = {"type": "object"}
IN_XML = ("<function=", "<arg_key>")
"""What Qwen3-Coder and GLM have inside of <tool_call> instead of JSON."""


@dataclass(frozen=True)
class ToolSyntax:
    """How calls look in an answer.

    They come behind `start`, if there is one, else an answer that begins with "{" is a call. `end` closes
    them. `bare_names` says that a call may be NAME{...} beside {"name": NAME, "arguments": {...}};
    `short_ids` that the template takes calls' ids of nine letters and digits only.
    """

    start: str = ""
    end: str = ""
    optional_start: str = ""
    bare_names: bool = False
    short_ids: bool = False

    @property
    def marks(self) -> tuple[str, ...]:
        """What a tokenizer may have as special tokens, and is text here."""
        marks = (self.start, self.end, self.optional_start, "[ARGS]" if self.bare_names else "")
        return tuple(mark for mark in marks if mark)


HERMES = ToolSyntax(start="<tool_call>", end="</tool_call>")
"""Hermes, Qwen 2.5 and 3: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, once or more."""
MISTRAL = ToolSyntax(start="[TOOL_CALLS]", bare_names=True, short_ids=True)
"""`[TOOL_CALLS][{"name": ..., "arguments": {...}}]`; newer ones `[TOOL_CALLS]NAME[ARGS]{...}`."""
LLAMA = ToolSyntax(optional_start="<|python_tag|>")
"""Llama 3: the whole answer is `{"name": ..., "parameters": {...}}`, several separated by semicolons."""
FORCED = ToolSyntax()
"""What `forced_grammar` allows."""


def syntax_of(tokenizer: Any) -> ToolSyntax:
    """The form in which the model of this tokenizer calls tools.

    Raises:
        RefusedRequest: its template has no tools, or has them in a form that is not known here.
    """
    template = tokenizer.chat_template or ""
    if isinstance(template, dict):
        template = template.get("tool_use") or template.get("default") or ""
    if "tools" not in template:
        raise unsupported("tools", "cannot be had with this model: its chat template has no tools")
    if "<tool_call>" in template and not any(mark in template for mark in IN_XML):
        return HERMES
    if "[TOOL_CALLS]" in template:
        return MISTRAL
    if "<|python_tag|>" in template or '"parameters": dictionary' in template:
        return LLAMA
    raise unsupported(
        "tools",
        "cannot be had with this model: its chat template has tools called in a form that is not known "
        'here (known are <tool_call>, [TOOL_CALLS] and Llama 3\'s {"name": ..., "parameters": ...})',
    )


def spelled_marks(syntax: ToolSyntax, tokenizer: Any) -> dict[int, str]:
    """The special tokens that mark calls, by id."""
    vocabulary = vocabulary_of(tokenizer)
    ids = {vocabulary.id_of(mark): mark for mark in syntax.marks}
    return {token: mark for token, mark in ids.items() if token is not None and token in vocabulary.special}


def forced_grammar(request: ChatCompletionRequest) -> Grammar | None:
    """What holds the model to calling a tool; None when it is free to.

    Raises:
        RefusedRequest: the tools' schemas cannot be put into one.
    """
    choice = request.tool_choice
    if choice in (None, "none", "auto") or not request.tools:
        return None
    tools: Sequence[Tool] = request.tools
    single = request.parallel_tool_calls is False
    if isinstance(choice, NamedTool):
        tools = [tool for tool in tools if tool.function.name == choice.function.name]
        single = True
    definitions: dict[str, Any] = {}
    calls = [_call_schema(tool, definitions) for tool in tools]
    one = calls[0] if len(calls) == 1 else {"anyOf": calls}
    schema = one if single else {"type": "array", "items": one, "minItems": 1}
    if definitions:
        schema = {**schema, "$defs": definitions}
    return Grammar("json_schema", as_json(schema))


def _call_schema(tool: Tool, definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of one call; what its parameters define goes to the root, where references look for it."""
    parameters = dict(tool.function.parameters or ANYTHING)
    for place in ("$defs", "definitions"):
        for name, meaning in (parameters.pop(place, None) or {}).items():
            if definitions.setdefault(name, meaning) != meaning:
                raise invalid("tools", f"two schemas define '{name}' differently; give one another name")
    return {
        "type": "object",
        "properties": {
            "name": {"const": tool.function.name},
            "arguments": _at_root(parameters),
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _at_root(value: Any) -> Any:
    """A schema whose references all look into `$defs`."""
    if isinstance(value, list):
        return [_at_root(part) for part in value]
    if not isinstance(value, dict):
        return value
    made = {key: _at_root(part) for key, part in value.items()}
    reference = made.get("$ref")
    if isinstance(reference, str):
        made["$ref"] = reference.replace("#/definitions/", "#/$defs/", 1)
    return made
