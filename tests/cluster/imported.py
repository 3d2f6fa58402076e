"""Imports all modules of some packages where only what a requirements file asks for can be imported.

python -m tests.cluster.imported REQUIREMENTS PACKAGE ... prints one line a module that cannot be imported.
"""

import importlib
import importlib.metadata as metadata
import importlib.util
import pkgutil
import sys
from pathlib import Path

from packaging.requirements import Requirement

OURS = ("heliostat", "dashboard", "tests")


def closure(requirements: str) -> set[str]:
    """The distributions that pip would install for a requirements file, as far as they are installed here."""
    wanted = [Requirement(line) for line in requirements.splitlines() if line and not line.startswith("#")]
    found: set[str] = set()
    while wanted:
        requirement = wanted.pop()
        name = _plain(requirement.name)
        marks = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if name in found or not marks:
            continue
        try:
            distribution = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        wanted += [Requirement(each) for each in distribution.requires or ()]
    return found


class OnlyThese:
    """A finder that comes first, and refuses what belongs to another distribution."""

    def __init__(self, allowed: set[str]) -> None:
        self.allowed = allowed
        self.owners = metadata.packages_distributions()

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        top = name.partition(".")[0]
        owners = {_plain(owner) for owner in self.owners.get(top, ())}
        if top not in OURS and top not in sys.stdlib_module_names and owners and not owners & self.allowed:
            raise ModuleNotFoundError(f"{name} is not among the requirements", name=name)


def main(requirements: str, *packages: str) -> None:
    """Import everything and print what fails."""
    sys.meta_path.insert(0, OnlyThese(closure(Path(requirements).read_text())))  # type: ignore[arg-type]
    for package in packages:
        folder = Path(str(importlib.import_module(package).__file__)).parent
        for module in pkgutil.walk_packages([str(folder)], f"{package}."):
            if module.name.endswith("__main__") or ".views." in module.name or module.name == "dashboard.app":
                continue  # scripts: importing them runs them
            try:
                importlib.import_module(module.name)
            except ImportError as error:
                print(f"{module.name}: {error}")


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


if __name__ == "__main__":
    main(*sys.argv[1:])
