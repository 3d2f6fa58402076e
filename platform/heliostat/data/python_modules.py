"""Which modules a Python installation has, without importing any of them."""

import difflib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from heliostat.errors import ConfigError

STDLIB = "stdlib"
TOPICS = "topics"
# Tests, vendored copies and programs: their docstrings explain nothing to a user of the library.
_SKIPPED = {
    "test", "tests", "testing", "encodings", "idle_test", "idlelib", "lib2to3", "turtledemo", "ensurepip",
    "pydoc_data", "site-packages", "dist-packages", "vendor", "vendored", "conftest", "setup",
}  # fmt: skip


@dataclass(frozen=True)
class ModuleAt:
    """A module to take docstrings from: a source file, a built-in module, or the help topics."""

    kind: Literal["file", "builtin", "topics"]
    name: str
    domain: str
    path: str = ""


def find_modules(packages: Iterable[str]) -> list[ModuleAt]:
    """The public modules of `stdlib` and of installed packages, sorted by name, each once.

    Raises:
        ConfigError: a package is not installed here.
    """
    modules: dict[str, ModuleAt] = {}
    for package in packages:
        found = _stdlib_modules() if package == STDLIB else _package_modules(package)
        for module in found:
            modules.setdefault(module.name, module)
    return [modules[name] for name in sorted(modules)]


def installed_packages() -> tuple[str, ...]:
    """`stdlib` and the names of all installed distributions, sorted."""
    names = {distribution.metadata["Name"] for distribution in metadata.distributions()}
    return (STDLIB, *sorted(name for name in names if name))


def installation_fingerprint(packages: Iterable[str]) -> str:
    """What decides the docstrings of these packages: the versions of Python and of each of them.

    Raises:
        ConfigError: a package is not installed here.
    """
    versions = [f"{sys.implementation.name} {sys.version}"]
    for package in packages:
        if package != STDLIB:
            versions.append(f"{package} {_version(package)}")
    return "\n".join(versions)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        if importlib.util.find_spec(package.partition(".")[0]) is None:
            raise _not_installed(package) from None
        return "unversioned"


def _not_installed(package: str) -> ConfigError:
    close = difflib.get_close_matches(package, installed_packages(), n=1)
    hint = f"did you mean '{close[0]}'?" if close else "see 'pip list', or say stdlib or all"
    return ConfigError(f"python_docs: package '{package}' is not installed; {hint}")


def _stdlib_modules() -> Iterator[ModuleAt]:
    root = Path(sysconfig.get_paths()["stdlib"])
    yield from _below(root, root, STDLIB)
    for name in sys.builtin_module_names:
        if not name.startswith("_"):
            yield ModuleAt("builtin", name, STDLIB)
    yield ModuleAt("topics", TOPICS, TOPICS)


def _package_modules(package: str) -> Iterator[ModuleAt]:
    """From the distribution's own list of files; a package without one is looked for on the path."""
    installed = True
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        installed, files = False, []
    sources = [file for file in files if file.suffix == ".py" and ".." not in file.parts]
    if sources:
        for file in sources:
            if _is_public(file.parts):
                yield ModuleAt("file", _module_name(file.parts), package, str(file.locate()))
        return
    spec = importlib.util.find_spec(package.partition(".")[0].replace("-", "_"))
    if spec is None and installed:
        return  # a distribution of programs only, such as py-spy
    if spec is None:
        raise _not_installed(package)
    for folder in spec.submodule_search_locations or ():
        yield from _below(Path(folder), Path(folder).parent, package)
    if spec.origin and not spec.submodule_search_locations and spec.origin.endswith(".py"):
        yield ModuleAt("file", spec.name, package, spec.origin)


def _below(folder: Path, root: Path, domain: str) -> Iterator[ModuleAt]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if _is_public((name,)))
        for file in sorted(files):
            parts = (Path(place) / file).relative_to(root).parts
            if file.endswith(".py") and _is_public(parts):
                yield ModuleAt("file", _module_name(parts), domain, str(Path(place) / file))


def _is_public(parts: tuple[str, ...]) -> bool:
    names = [part.removesuffix(".py") for part in parts]
    if names[-1] == "__init__":
        names.pop()
    return bool(names) and not any(
        name.startswith(("_", "test_", "config-")) or name in _SKIPPED or "." in name for name in names
    )


def _module_name(parts: tuple[str, ...]) -> str:
    return ".".join(part.removesuffix(".py") for part in parts).removesuffix(".__init__")
