"""Renders a chat template for some conversations, within limits: `python template_probe.py < TEMPLATE`.

Run as a program it needs nothing of heliostat. Ends with 0 when the template is rendered, or refuses the
conversations in its own words; otherwise says why not, or is ended by the system.
"""

import json
import resource
import sys
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

CPU_SECONDS = 4
MEMORY_BYTES = 1 << 30
LONGEST = 1_000_000
MARKS = {"generation"}
CALL = {"type": "function", "function": {"name": "look_up", "arguments": {"word": "mirror", "number": 3}}}
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks a word up.",
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": "string"}, "number": {"type": "integer", "enum": [1, 2, 3]}},
            "required": ["word"],
        },
    },
}
USER = {"role": "user", "content": "What is a heliostat?"}
ANSWER = {"role": "assistant", "content": "A mirror that follows the sun."}
CONVERSATIONS: tuple[tuple[list[dict[str, Any]], list[dict[str, Any]] | None], ...] = (
    ([USER], None),
    ([{"role": "system", "content": "Be brief."}, USER, ANSWER, USER], None),
    ([USER, ANSWER] * 20 + [USER], [TOOL]),
    (
        [
            USER,
            {"role": "assistant", "content": "", "tool_calls": [CALL | {"id": "call00001"}]},
            {"role": "tool", "content": "a mirror", "name": "look_up", "tool_call_id": "call00001"},
        ],
        [TOOL],
    ),
)


class _Generation(Extension):
    """The `generation` tag, with which transformers marks the assistant's words."""

    tags = MARKS

    def parse(self, parser: Any) -> Any:
        """Its body, as it stands."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class RefusedError(Exception):
    """The template's own word that it does not render a conversation."""


def environment() -> ImmutableSandboxedEnvironment:
    """As transformers sets it up."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    made.globals["raise_exception"] = _refuse
    made.globals["strftime_now"] = lambda form: str(form)
    return made


def _refuse(message: str) -> None:
    raise RefusedError(message)


def main() -> int:
    """Render what comes on standard input."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        template = environment().from_string(sys.stdin.buffer.read().decode())
        for messages, tools in CONVERSATIONS:
            try:
                text = template.render(
                    messages=messages,
                    tools=tools,
                    add_generation_prompt=True,
                    bos_token="<s>",
                    eos_token="</s>",
                )
            except (SecurityError, OverflowError, RecursionError):
                raise
            except (RefusedError, TemplateError, TypeError, ValueError, LookupError, AttributeError):
                continue  # that kind of conversation is not for this model
            if len(text) > LONGEST:
                raise OverflowError(f"makes {len(text)} characters of a short conversation")
    except (SecurityError, OverflowError, RecursionError, MemoryError) as error:
        print(f"cannot be rendered: {error or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
