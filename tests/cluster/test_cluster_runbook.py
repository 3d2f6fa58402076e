"""The runbook has a page for each failure; it and README's table quote only lines that the code prints."""

import ast
import re
from functools import cache

import pytest
from tests.cluster.manifests import ROOT

TEXT = (ROOT / "cluster" / "RUNBOOK.md").read_text()
PAGES = dict(re.findall(r"(?ms)^## ([^\n]+)\n(.*?)(?=^## |\Z)", TEXT))
QUOTED = re.findall(r"(?m)^> (.+)$", TEXT)
README = (ROOT / "README.md").read_text()
(TABLE,) = re.findall(r"(?ms)^### When something fails\n(.*?)^##", README)
FAULTS = [[cell.strip() for cell in row.split("|")] for row in re.findall(r"(?m)^\| (.+) \|$", TABLE)][1:]


@cache
def printed():
    """All strings of the package, with a mark where something is put in."""
    found = []
    for path in (ROOT / "platform" / "heliostat").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def unknown(line):
    """The parts of a quoted line that stand nowhere in the code."""
    parts = [part.strip(" ;:(),") for part in line.split("...")]
    return [part for part in parts if part not in printed()]


@pytest.mark.parametrize("line", QUOTED)
def test_a_quoted_line_is_what_the_code_prints(line):
    assert unknown(line) == []


def test_readmes_table_has_each_fault():
    assert [fault[0] for fault in FAULTS] == [
        "a worker", "a node", "the head", "a replica", "the tracking database", "the disk, full", "a clock"
    ]  # fmt: skip


@pytest.mark.parametrize(("fault", "seen", "done", "shown"), FAULTS)
def test_readmes_lines_of_a_fault_are_what_the_code_prints_and_its_tests_exist(fault, seen, done, shown):
    lines = [line for line in re.findall(r"`([^`]+)`", seen) if "..." in line]
    assert lines
    assert [part for line in lines for part in unknown(line)] == []
    assert done
    tests = re.findall(r"`([\w/]+\.py)::(\w+)`", shown)
    assert tests
    for file, name in tests:
        assert name in functions(file), f"{file}::{name}"


def functions(file):
    """The names of a file's functions."""
    return {
        node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)
    }


def test_a_line_that_nothing_prints_is_found():
    assert unknown("the disk is full; free ... money") == ["money"]


def test_every_failure_has_a_page():
    assert list(PAGES) == [
        "Worker lost", "Node lost", "Head lost", "Replica lost", "Tracking database away",
        "Object store away", "Disk full", "Clock skew", "Out of memory", "NaN loss", "Pending for ever",
        "Endpoint down", "Token wrong", "Certificate expired",
    ]  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_what_one_sees_why_what_to_do_and_what_is_lost(page):
    flat = " ".join(PAGES[page].split())
    assert "One sees" in flat
    for part in ("**Why:**", "**Do:**", "**Lost:**"):
        assert flat.count(part) == 1


def test_what_the_pages_point_to_exists():
    for file in re.findall(r"\b((?:kubernetes|launcher)/[\w/.-]*)", TEXT):
        assert (ROOT / "cluster" / file.rstrip(".")).exists(), file
    for anchor in re.findall(r"\(#([a-z-]+)\)", TEXT):
        assert anchor in [page.lower().replace(" ", "-") for page in PAGES]
