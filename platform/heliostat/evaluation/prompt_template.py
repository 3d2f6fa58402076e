"""Prompts from a row of data: jinja2 in a sandbox, as lm-evaluation-harness's tasks have them."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from heliostat.errors import ConfigError

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment


def render(template: str, row: dict[str, Any], where: str) -> str:
    """The text that a template makes of a row; the name of a column alone is that column.

    Raises:
        ConfigError: the template is not jinja, or asks for a column that the row has not.
    """
    import jinja2

    if template in row:
        return str(row[template])
    try:
        return str(_environment().from_string(template).render(**row))
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: the template {template[:60]!r} fails: {error}") from None


def evaluate(template: str, row: dict[str, Any], where: str) -> Any:
    """The value of a jinja expression such as `{{ options }}`, or of a column; errors as `render`."""
    import jinja2

    name = template.strip()
    name = name.removeprefix("{{").removesuffix("}}").strip()
    try:
        return _environment().compile_expression(name, undefined_to_none=False)(**row)
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        raise ConfigError(f"{where}: the expression {template[:60]!r} fails: {error}") from None


@lru_cache(maxsize=1)
def _environment() -> "SandboxedEnvironment":
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
