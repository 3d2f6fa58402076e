"""Chat templates: hostile ones are refused before anything of a model is loaded, real ones are not."""

import json
import time

import pytest

from heliostat.errors import ModelError
from heliostat.models.template_safety import check_chat_template, check_chat_templates

USUAL = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}{% endfor %}"
SOUND = {
    "one loop": USUAL,
    "tools and macros": (
        "{%- macro kind(spec) -%}{%- if spec.type == 'array' -%}{{ kind(spec['items']) + '[]' }}"
        "{%- else -%}{{ spec.type }}{%- endif -%}{%- endmacro -%}"
        "{%- for tool in tools or [] %}{%- for name, spec in tool.function.parameters.properties.items() %}"
        "{{ name }}: {{ kind(spec) }}{% endfor %}{% endfor %}" + USUAL
    ),
    "counting down": (
        "{%- set ns = namespace(last=0) -%}{% for i in range(messages | length - 1, -1, -1) %}"
        "{% if messages[i].role == 'user' and not ns.last %}{% set ns.last = i %}{% endif %}{% endfor %}"
        + USUAL
    ),
    "refusing a role": (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for part in [m.content] %}{{ '  ' * 2 + part }}{% endfor %}{% endfor %}"
    ),
    "marking answers": "{% for m in messages %}{% generation %}{{ m.role }}{% endgeneration %}{% endfor %}",
    "leaving early": "{% for m in messages %}{% if loop.index > 3 %}{% break %}{% endif %}x{% endfor %}",
    "dates": "{{ strftime_now('%d %b %Y') }}" + USUAL,
    "tools as JSON": "{% for tool in tools or [] %}{{ tool | tojson(indent=4) }}{% endfor %}" + USUAL,
    "arguments of calls": (
        "{% for m in messages %}{% for call in m.tool_calls or [] %}{{ call.function.arguments | tojson }}"
        "{% endfor %}{% endfor %}"
    ),
}
NO_JINJA = ["{% for %}", "{{", "{% endif %}", "{{ a b }}"]
INSIDES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__'] }}",
    "{{ '' | attr('__class__') }}",
    "{{ messages | map('__init__') }}",
    "{{ cycler.__init__.__globals__.os.popen('touch /tmp/x').read() }}",
    "{{ self._TemplateReference__context }}",
    "{% set x = namespace.__init__ %}",
    "{% if false %}{{ lipsum.__globals__ }}{% endif %}",
]
ENDLESS = [
    "{% for i in range(10**9) %}x{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{{ 10 ** (10 ** 10) }}",
    "{{ 'x' * 10**10 }}",
    "{{ 'x' * 10**8 * messages | length }}",
    "{% macro f(n) %}{{ f(n - 1) }}{{ f(n - 1) }}{% endmacro %}{{ f(40) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for i in messages recursive %}{{ loop(messages) }}{{ loop(messages) }}{% endfor %}",
    "{{ lipsum(n=100000) }}",
    "{% for i in range(10000) %}{{ 'a' * 1000 }}{% endfor %}",
]


@pytest.mark.parametrize("what", SOUND)
def test_what_real_templates_do_is_sound(what):
    check_chat_template(SOUND[what], "chat_template.jinja")


def refusal(template: str) -> str:
    began = time.monotonic()
    with pytest.raises(ModelError) as caught:
        check_chat_template(template, "folder/chat_template.jinja")
    assert time.monotonic() - began < 30
    message = str(caught.value)
    assert message.startswith("folder/chat_template.jinja")
    assert "\n" not in message
    assert len(message) < 500
    return message


@pytest.mark.parametrize("template", NO_JINJA)
def test_what_is_no_jinja_is_refused_with_its_line(template):
    assert "folder/chat_template.jinja:2: the chat template is no jinja" in refusal(f"\n{template}")


@pytest.mark.parametrize("template", INSIDES)
def test_a_hand_in_pythons_insides_is_refused(template):
    assert "which is Python's own" in refusal(template)


@pytest.mark.heavy
@pytest.mark.parametrize("template", ENDLESS)
def test_what_would_not_end_or_fill_the_memory_is_refused(template):
    assert "render" in refusal(template)


@pytest.mark.parametrize("place", ["file", "config", "several", "more"])
def test_a_template_is_looked_at_wherever_it_would_be_found(tmp_path, place):
    evil = INSIDES[0]
    (tmp_path / "chat_template.jinja").write_text(evil if place == "file" else USUAL)
    kept = {
        "config": evil,
        "several": [{"name": "default", "template": USUAL}, {"name": "rag", "template": evil}],
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": kept.get(place)}))
    if place == "more":
        (tmp_path / "additional_chat_templates").mkdir()
        (tmp_path / "additional_chat_templates" / "rag.jinja").write_text(evil)
    with pytest.raises(ModelError, match="Python's own"):
        check_chat_templates(tmp_path)
