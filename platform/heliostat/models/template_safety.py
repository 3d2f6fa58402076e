"""Whether a chat template is one: text made from messages, in time, without a hand in Python's insides.

transformers renders templates in jinja's sandbox, which keeps them from files and processes, but neither from
counting for years nor from filling the memory. Those that could are tried in a process with limits.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from heliostat.errors import ModelError

PROBE = Path(__file__).with_name("template_probe.py")
PROBE_SECONDS = 20.0
MAX_TEMPLATE_CHARACTERS = 500_000
FILE_NAME = "chat_template.jinja"
MORE_FOLDER = "additional_chat_templates"
CONFIG_NAME = "tokenizer_config.json"


def check_chat_templates(folder: Path) -> None:
    """Refuse a folder with a template that is not sound, wherever transformers would find it.

    Raises:
        ModelError: names the file and the line.
    """
    for place, template in _templates(folder):
        check_chat_template(template, place)


def check_chat_template(template: str, place: str) -> None:
    """Refuse a template that is not sound; most are told from their syntax, within milliseconds.

    Raises:
        ModelError: it is no jinja, reaches for what begins with an underscore, or does not end.
    """
    import jinja2

    from heliostat.models.template_probe import environment

    if len(template) > MAX_TEMPLATE_CHARACTERS:
        raise _refused(place, f"has more than {MAX_TEMPLATE_CHARACTERS} characters")
    try:
        tree = environment().parse(template)
    except (jinja2.TemplateSyntaxError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise _refused(f"{place}:{line}", f"is no jinja: {error}") from None
    for node in tree.find_all(jinja2.nodes.Node):
        name = _reached(node)
        if name is not None:
            raise _refused(f"{place}:{node.lineno}", f"reaches for '{name[:40]}', which is Python's own")
    if _may_take_long(tree):
        _probe(template, place)


def _templates(folder: Path) -> list[tuple[str, str]]:
    found = [
        file for file in (folder / FILE_NAME, *sorted((folder / MORE_FOLDER).glob("*"))) if file.is_file()
    ]
    try:
        templates = [(str(file), file.read_text(encoding="utf-8")) for file in found]
        config = folder / CONFIG_NAME
        kept = json.loads(config.read_bytes()).get("chat_template") if config.is_file() else None
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder}: its chat template cannot be read: {error}; copy it again") from None
    several = kept if isinstance(kept, list) else [{"template": kept}]
    texts = [each.get("template") for each in several if isinstance(each, dict)]
    return templates + [(str(folder / CONFIG_NAME), text) for text in texts if isinstance(text, str)]


def _reached(node: Any) -> str | None:
    """The name with an underscore in front that a node asks for by attribute, item or filter."""
    from jinja2 import nodes

    name: Any = None
    if isinstance(node, nodes.Getattr):
        name = node.attr
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        name = node.arg.value
    elif isinstance(node, nodes.Filter) and node.name in ("attr", "map") and node.args:
        name = getattr(node.args[0], "value", None)
    return name if isinstance(name, str) and name.startswith("_") else None


def _may_take_long(tree: Any) -> bool:
    """Whether it has more to count or repeat than the messages it is given."""
    from jinja2 import nodes

    if any(isinstance(node, nodes.Mul | nodes.Pow | nodes.Macro) for node in tree.find_all(nodes.Node)):
        return True
    if any(node.name in ("range", "lipsum", "cycler") for node in tree.find_all(nodes.Name)):
        return True
    loops = list(tree.find_all(nodes.For))
    return any(loop.find(nodes.For) for loop in loops) or any(loop.recursive for loop in loops)


def _probe(template: str, place: str) -> None:
    """Render it for some conversations in a process that may not take long nor much."""
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(PROBE)],
            input=template.encode("utf-8", "replace"),
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _refused(place, f"is not rendered within {PROBE_SECONDS:g} s") from None
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _refused(place, reason[-1][:200] if reason else "takes too long or too much memory to render")


def _refused(place: str, what: str) -> ModelError:
    return ModelError(f"{place}: the chat template {what}; take the model's original template or write one")
