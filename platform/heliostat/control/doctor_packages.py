"""Python and the packages here, against what Heliostat was made and tested with."""

import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata

from heliostat.control.checks import Check, Question, ok, refused, warning
from heliostat.control.packages import source_checkout

OF_THE_DASHBOARD = "dashboard"
INSTALL = "pip install --constraint constraints.txt --editable '.[dashboard]'"


def package_questions() -> list[Question]:
    """The checks of this file."""
    return [
        Question("python", check_python),
        Question("packages", check_packages),
        Question("streamlit", check_streamlit),
    ]


def check_python() -> Check:
    """This Python's release against the one that is asked for."""
    from packaging.specifiers import SpecifierSet

    wanted, version = _project()[0], ".".join(map(str, sys.version_info[:3]))
    facts = {"version": version, "wanted": wanted}
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return ok("python", f"{version} ({sys.executable})", **facts)
    mend = f"make an environment with Python {wanted}: python3.11 -m venv .venv"
    return refused("python", f"Python {version}, and Heliostat needs {wanted}", mend, **facts)


def check_packages() -> list[Check]:
    """What is installed against the pins; one line for each that is missing or of another release."""
    needed = _project()[1]
    wrong = wrong_packages(needed)
    if wrong:
        return [refused("packages", says, f"{INSTALL} (or pip install '{pin}')") for pin, says in wrong]
    return [ok("packages", f"{len(needed)} packages are of the releases that are asked for")]


def check_streamlit() -> Check:
    """Whether the dashboard can be shown."""
    wrong = wrong_packages(_project()[2])
    if not wrong:
        return ok("streamlit", f"streamlit {metadata.version('streamlit')}")
    mend = f"pip install '{wrong[0][0]}', where the dashboard is to run"
    return warning("streamlit", f"{wrong[0][1]}: 'heliostat dashboard' cannot start", mend)


def wrong_packages(needed: Iterable[str]) -> list[tuple[str, str]]:
    """The requirements that are not met, each with what is there instead, in words."""
    from packaging.requirements import Requirement

    wrong = []
    for line in needed:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        pin = f"{requirement.name}{requirement.specifier}"
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append((pin, f"{requirement.name} is not installed, {pin} is needed"))
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append((pin, f"{requirement.name} is {version}, {pin} is needed"))
    return wrong


def installed_versions(names: Iterable[str]) -> dict[str, str | None]:
    """The releases of packages by their names, without importing them; None where one is missing."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _project() -> tuple[str, list[str], list[str]]:
    """What is asked for: of Python, of packages, and of packages for the dashboard."""
    checkout = source_checkout()
    if checkout is not None and (checkout / "pyproject.toml").is_file():
        project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
        extra = project["optional-dependencies"][OF_THE_DASHBOARD]
        return str(project["requires-python"]), list(project["dependencies"]), list(extra)
    installed = metadata.metadata("heliostat")
    lines = metadata.requires("heliostat") or []
    extra = [line.partition(";")[0] for line in lines if f'extra == "{OF_THE_DASHBOARD}"' in line]
    return installed["Requires-Python"], [line for line in lines if "extra ==" not in line], extra
