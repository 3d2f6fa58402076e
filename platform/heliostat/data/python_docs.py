"""Documents from docstrings: short questions and answers, or plain text.

Source files are parsed, never imported; built-in modules, which have no source, are looked at. The same
installation gives the same documents in the same order.
"""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from heliostat.data.config import PythonDocsSource
from heliostat.data.documents import Document
from heliostat.data.python_modules import ModuleAt, find_modules, installed_packages

LONGEST_SIGNATURE = 88
_QUESTIONS = {
    "function": ("What does `{}` do?", "Explain `{}`.", "What is `{}` for?", "How is `{}` documented?"),
    "class": ("What is the class `{}`?", "Explain the class `{}`.", "What is `{}` for?"),
    "module": ("What is the module `{}` for?", "Explain the module `{}`.", "What does `{}` offer?"),
    "topic": ("What does Python's help say about `{}`?", "Explain the Python topic `{}`."),
}
_SIGNATURE_LINE = re.compile(r"^[\w.]+\(.*\)(\s*->.*)?$")


@dataclass(frozen=True)
class Documented:
    """A public name with its docstring: `signature` is how it is called, `line` where it is defined."""

    sort: str
    name: str
    signature: str
    docstring: str
    line: int


def packages_of(source: PythonDocsSource) -> tuple[str, ...]:
    """The packages a source names, `all` spelt out."""
    return installed_packages() if source.packages == "all" else source.packages


def plan_modules(source: PythonDocsSource) -> list[tuple[ModuleAt, int | None]]:
    """The modules to read, each with the number of documents to take from it (None: all).

    Modules come in the order of a seeded hash, so that few documents still are a mixture. Only with
    `max_documents` are they parsed here, and only as many as that needs.
    """
    modules = find_modules(packages_of(source))
    modules.sort(key=lambda module: (_hash(source.seed, module.name), module.name))
    if source.max_documents is None:
        return [(module, None) for module in modules]
    planned: list[tuple[ModuleAt, int | None]] = []
    missing = source.max_documents
    for module in modules:
        found = sum(1 for _ in documents_of(module, source, ""))
        if found:
            planned.append((module, min(found, missing)))
            missing -= found
        if missing <= 0:
            break
    return planned


def documents_of(module: ModuleAt, source: PythonDocsSource, label: str) -> Iterator[Document]:
    """The module's documents in the order of its lines; `label` goes in front of their uids."""
    seen = set()
    for documented in _documented(module):
        body = _body(documented.docstring, source)
        if body is None or documented.name in seen:
            continue
        seen.add(documented.name)
        asked = _is_conversation(documented.name, source)
        yield Document(
            uid=f"{label}:{module.name}:{_local_name(documented.name, module)}",
            source=f"{label}:{module.name}",
            row=documented.line,
            domain=module.domain,
            text="" if asked else f"{documented.signature}\n\n{body}",
            messages=_conversation(documented, body) if asked else (),
        )


def _local_name(name: str, module: ModuleAt) -> str:
    """The name inside its module, "" for the module: in all modules together, full names are not unique."""
    return "" if name == module.name else name.removeprefix(f"{module.name}.")


def _is_conversation(name: str, source: PythonDocsSource) -> bool:
    """Under `both` a name takes one form: nothing learned as text is asked for in another split."""
    if source.form == "both":
        return _hash(source.seed, "form", name) % 2 == 0
    return source.form == "conversations"


def _conversation(documented: Documented, body: str) -> tuple[dict[str, str], ...]:
    """The question names the parameters; the answer is what can be known of them: the docstring."""
    questions = _QUESTIONS[documented.sort]
    question = questions[_hash("question", documented.name) % len(questions)].format(documented.signature)
    return {"role": "user", "content": question}, {"role": "assistant", "content": body}


def _body(docstring: str, source: PythonDocsSource) -> str | None:
    """The cleaned docstring: its summary on one line, then as many paragraphs as fit; None when unfit."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(docstring).strip())
    if len(paragraphs) > 1 and _SIGNATURE_LINE.match(" ".join(paragraphs[0].split())):
        paragraphs = paragraphs[1:]  # a docstring of C code begins with the signature
    summary = " ".join(paragraphs[0].split())
    if " " not in summary or len(summary) > source.max_characters:
        return None
    body = summary
    for paragraph in paragraphs[1:]:
        longer = f"{body}\n\n" + "\n".join(line.rstrip() for line in paragraph.splitlines())
        if len(longer) > source.max_characters:
            break
        body = longer
    return body if len(body) >= source.min_characters else None


def _documented(module: ModuleAt) -> Iterator[Documented]:
    if module.kind == "file":
        yield from _in_file(module)
    elif module.kind == "builtin":
        yield from _in_builtin_module(module.name)
    else:
        yield from _in_topics()


def _in_file(module: ModuleAt) -> Iterator[Documented]:
    """A file that cannot be read or parsed (a template, another version's syntax) documents nothing."""
    try:
        tree = ast.parse(Path(module.path).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    docstring = ast.get_docstring(tree)
    if docstring:
        yield Documented("module", module.name, module.name, docstring, 1)
    yield from _in_body(tree.body, module.name, in_class=False)


def _in_body(body: list[ast.stmt], prefix: str, in_class: bool) -> Iterator[Documented]:
    for node in body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if node.name.startswith("_"):
            continue
        name = f"{prefix}.{node.name}"
        docstring = ast.get_docstring(node) or ""
        if isinstance(node, ast.ClassDef):
            if docstring:
                yield Documented("class", name, name, docstring, node.lineno)
            yield from _in_body(node.body, name, in_class=True)
        elif docstring:
            yield Documented("function", name, _signature(name, node, in_class), docstring, node.lineno)


def _signature(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef, in_class: bool) -> str:
    """`name(parameters)` without annotations; without defaults too, or with `...`, when that is too long."""
    arguments = node.args
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    bound = in_class and not any(_is_staticmethod(decorator) for decorator in node.decorator_list)
    positional = arguments.posonlyargs or arguments.args
    if bound and positional:
        positional.pop(0)
        spare = len(arguments.defaults) - len(arguments.posonlyargs) - len(arguments.args)
        if spare > 0:
            del arguments.defaults[:spare]
    full = f"{name}({ast.unparse(arguments)})"
    if len(full) <= LONGEST_SIGNATURE:
        return full
    arguments.defaults, arguments.kw_defaults = [], [None] * len(arguments.kwonlyargs)
    short = f"{name}({ast.unparse(arguments)})"
    return short if len(short) <= LONGEST_SIGNATURE else f"{name}(...)"


def _is_staticmethod(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Name) and decorator.id == "staticmethod"


def _in_builtin_module(module_name: str) -> Iterator[Documented]:
    module = importlib.import_module(module_name)
    for name, value in sorted(vars(module).items()):
        if name.startswith("_") or inspect.ismodule(value):
            continue
        full = name if module_name == "builtins" else f"{module_name}.{name}"
        if inspect.isclass(value):
            yield from _in_builtin_class(full, value)
        elif callable(value) and isinstance(value.__doc__, str):
            yield Documented("function", full, _call(full, value), value.__doc__, 1)


def _in_builtin_class(full: str, value: type) -> Iterator[Documented]:
    if value.__doc__:
        yield Documented("class", full, full, value.__doc__, 1)
    for name, method in sorted(vars(value).items()):
        if not name.startswith("_") and callable(method) and isinstance(method.__doc__, str):
            yield Documented("function", f"{full}.{name}", _call(f"{full}.{name}", method), method.__doc__, 1)


def _call(full: str, value: Any) -> str:
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except (ValueError, TypeError):  # C code that tells no signature
        return f"{full}(...)"
    shown = [str(parameter.replace(annotation=parameter.empty)) for parameter in parameters]
    if shown and shown[0] in ("self", "type", "cls"):
        shown = shown[1:]
    text = f"{full}({', '.join(shown)})"
    return text if len(text) <= LONGEST_SIGNATURE else f"{full}(...)"


def _in_topics() -> Iterator[Documented]:
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    for name in sorted(topics):
        # each begins with a heading underlined with asterisks
        text = re.sub(r"\A.*\n\*+\n", "", topics[name])
        yield Documented("topic", name, name, text, 1)


def _hash(*parts: object) -> int:
    return xxhash.xxh3_64_intdigest("\0".join(str(part) for part in parts).encode())
