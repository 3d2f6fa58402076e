"""The catalogue: both languages say the same things, and what pages ask for is there."""

import ast
import re
import string
from pathlib import Path

import pytest
from dashboard.words import FOLDER, catalogue, translator

DASHBOARD = FOLDER.parent
PAGES = sorted(DASHBOARD.rglob("*.py"))


def asked_for(path: Path) -> set[str]:
    """The keys that a file hands to `t` (or `session.t`) as they stand."""
    return {
        node.args[0].value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] == "t"
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }


def placeholders(text: object) -> set[str]:
    texts = text.values() if isinstance(text, dict) else [text]
    return {name for one in texts for _, name, _, _ in string.Formatter().parse(one) if name}


def test_both_languages_have_the_same_keys():
    assert catalogue("en").keys() == catalogue("zh").keys()


def test_both_languages_have_the_same_placeholders():
    english, chinese = catalogue("en"), catalogue("zh")
    differing = {key for key in english if placeholders(english[key]) != placeholders(chinese.get(key, ""))}
    assert differing == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(DASHBOARD).as_posix())
def test_every_key_that_is_asked_for_is_there(path):
    assert asked_for(path) <= catalogue("en").keys()


def test_every_key_is_used():
    """A key counts as used where it stands in the code, or where an f-string begins like it; the names of a
    page's sections are put together in parts/links.py."""
    code = "\n".join(path.read_text() for path in PAGES)
    whole = set(re.findall(r"""["']([a-z_]+(?:\.[a-zA-Z_0-9]+)+)["']""", code))
    begun = tuple(set(re.findall(r'f"([a-z_]+\.(?:[a-zA-Z_0-9]+[._])*)\{', code)))
    assert {
        key
        for key in catalogue("en")
        if key not in whole and not key.startswith(begun) and ".section." not in key
    } == set()


def test_a_missing_word_is_an_error_in_tests_and_its_key_in_production(monkeypatch):
    monkeypatch.delenv("HELIOSTAT_STRICT_WORDS", raising=False)
    assert translator("en")("no.such") == "no.such"
    monkeypatch.setenv("HELIOSTAT_STRICT_WORDS", "1")
    with pytest.raises(KeyError, match=r"no\.such"):
        translator("en")("no.such")


def test_one_and_many_are_told_apart():
    t = translator("en")
    assert "one second" in t("login.wait", n=1)
    assert "8 seconds" in t("login.wait", n=8)
