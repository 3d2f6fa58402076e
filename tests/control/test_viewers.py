"""Whoever may only look is refused by every function that acts, before it has done or read anything.

The functions are found, not listed: whatever in heliostat.control takes an actor.
"""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import heliostat.control
from heliostat.control.models import role_for
from heliostat.control.roles import Actor, Role, require
from heliostat.errors import AccessError

VIEWER = Actor("vera", "viewer")
JUDGES = {require}
"""Takes an actor to say what it may do, and does nothing itself."""
ONLY_FOR_SOME = {
    "job_queue.check_priority": {"priority": 1},
    "models.promote_version": {"to": "production", "gate": None},
}
"""Arguments that decide how much is asked for."""


def _acting() -> dict[str, Callable[..., Any]]:
    found = {}
    for module in pkgutil.iter_modules(heliostat.control.__path__):
        content = importlib.import_module(f"heliostat.control.{module.name}")
        for name, function in inspect.getmembers(content, inspect.isfunction):
            here = function.__module__ == content.__name__ and not name.startswith("_")
            if here and function not in JUDGES and Actor in get_type_hints(function).values():
                takes = {each for each, kind in get_type_hints(function).items() if kind is Actor}
                if takes - {"return"}:
                    found[f"{module.name}.{name}"] = function
    return found


ACTING = _acting()


class Untouchable:
    """Stands for a site, a store or a workspace; whoever looks into it has gone too far."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"'{name}' was looked at before the actor was")


def arguments(name: str, function: Callable[..., Any], actor: Actor) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if get_type_hints(function)[parameter.name] is Actor:
            given[parameter.name] = actor
        elif parameter.default is inspect.Parameter.empty:
            given[parameter.name] = Untouchable()
    return given | ONLY_FOR_SOME.get(name, {})


def test_the_functions_that_act_are_found():
    known = {"jobs.submit_job", "jobs.stop_job", "endpoint_actions.delete", "models.promote_version"}
    assert known <= set(ACTING)
    assert len(ACTING) >= 20


@pytest.mark.parametrize("name", sorted(ACTING))
def test_a_viewer_is_refused_before_anything_is_done(name):
    with pytest.raises(AccessError, match="vera is a viewer and may not "):
        ACTING[name](**arguments(name, ACTING[name], VIEWER))


@pytest.mark.parametrize("name", sorted(ACTING))
def test_who_may_act_is_let_through_to_what_is_acted_on(name):
    """So that the refusal above is of the viewer, and not of the arguments."""
    with suppress(AssertionError, TypeError):  # what stands in for a site is no site
        ACTING[name](**arguments(name, ACTING[name], Actor("ada", "admin")))


@pytest.mark.parametrize(
    ("to", "skip", "role"),
    [
        ("candidate", False, "operator"), ("staging", False, "operator"), ("production", False, "admin"),
        ("staging", True, "admin"),
    ],
)  # fmt: skip
def test_no_alias_is_a_viewers_to_give(to: Any, skip: bool, role: Role):
    assert role_for(to, skip) == role


def test_the_dashboard_acts_only_through_functions_that_ask_who_acts():
    """What acts without an actor (the command line's own ways) is nothing that a page imports."""
    root = Path(__file__).resolve().parents[2] / "dashboard"
    unasked = ("ray_jobs", "packages", "job_queue", "own_processes")
    started = ("local_cluster", "accounts")
    for path in root.rglob("*.py"):
        own = path.name in ("background.py", "started.py")
        guilty = [
            f"{module}.{name}"
            for module, name in _of_control(path)
            if module in unasked or (module in started and not own)
            if f"{module}.{name}" not in ACTING and not name.startswith("read_") and not name[0].isupper()
        ]
        assert guilty == [], path


def _of_control(path: Path) -> list[tuple[str, str]]:
    """(module, name) of what a file imports from heliostat.control."""
    return [
        (str(node.module).rpartition(".")[2], alias.name)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("heliostat.control")
        for alias in node.names
    ]
