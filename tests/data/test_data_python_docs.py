"""Documents from docstrings: the same for the same installation, nothing imported."""

import subprocess
import sys
import textwrap

import pytest

from heliostat.data.config import PythonDocsSource
from heliostat.data.python_docs import documents_of, plan_modules
from heliostat.data.python_modules import ModuleAt, find_modules, installation_fingerprint
from heliostat.text.chat import check_messages

MODULE = '''
"""Tools for mirrors.

More about them.
"""

def turn(mirror, angle: float = 0.5, *, slowly=False):
    """Turn a mirror
    by an angle.

        keep   this

    Last paragraph.
    """

def _private():
    """Not to be seen by anyone at all."""

def silent(): pass

def short():
    """Word."""

class Field(list):
    """A field of mirrors and one tower."""

    def focus(self, point=None):
        """Focus all mirrors on a point."""

    @staticmethod
    def best(one, two):
        """The better one of two mirrors."""

    @classmethod
    def of(cls, count=3):
        """A field of so many mirrors."""

    def _hidden(self):
        """Nobody should see this one."""
'''


@pytest.fixture
def module(tmp_path) -> ModuleAt:
    file = tmp_path / "optics.py"
    file.write_text(MODULE)
    return ModuleAt("file", "optics", "mirrors", str(file))


def answers(module: ModuleAt, **options) -> dict[str, str]:
    source = PythonDocsSource(min_characters=1, **options)
    found = list(documents_of(module, source, "docs"))
    assert all(check_messages(document.messages) is None for document in found)
    return {document.uid: document.messages[1]["content"] for document in found}


def test_answers_are_the_docstrings_with_the_summary_on_one_line(module):
    assert answers(module) == {
        "docs:optics:": "Tools for mirrors.\n\nMore about them.",
        "docs:optics:turn": "Turn a mirror by an angle.\n\n    keep   this\n\nLast paragraph.",
        "docs:optics:Field": "A field of mirrors and one tower.",
        "docs:optics:Field.focus": "Focus all mirrors on a point.",
        "docs:optics:Field.best": "The better one of two mirrors.",
        "docs:optics:Field.of": "A field of so many mirrors.",
    }


def test_an_answer_is_cut_at_a_paragraph_and_a_long_first_one_gives_none(module):
    cut = answers(module, max_characters=30)
    assert cut["docs:optics:turn"] == "Turn a mirror by an angle."
    assert "docs:optics:Field" not in cut


def test_questions_name_the_thing_and_vary(module):
    found = list(documents_of(module, PythonDocsSource(min_characters=1), "docs"))
    questions = [document.messages[0]["content"] for document in found]
    assert {question.split("`")[1] for question in questions} == {
        "optics",
        "optics.turn(mirror, angle=0.5, *, slowly=False)",
        "optics.Field",
        "optics.Field.focus(point=None)",
        "optics.Field.best(one, two)",
        "optics.Field.of(count=3)",
    }
    assert len({question.partition("`")[0] for question in questions}) > 1


def test_documents_say_where_they_come_from(module):
    turn = list(documents_of(module, PythonDocsSource(form="text", min_characters=1), "docs"))[1]
    assert (turn.source, turn.domain, turn.row, turn.messages) == ("docs:optics", "mirrors", 7, ())
    signature, body = turn.text.split("\n\n", 1)
    assert signature == "optics.turn(mirror, angle=0.5, *, slowly=False)"
    assert body == "Turn a mirror by an angle.\n\n    keep   this\n\nLast paragraph."


def test_under_both_each_name_takes_one_form():
    module = next(each for each in find_modules(["stdlib"]) if each.name == "shutil")
    found = list(documents_of(module, PythonDocsSource(form="both"), "docs"))
    assert {bool(document.messages) for document in found} == {True, False}
    assert len({document.uid for document in found}) == len(found)


def test_a_file_that_does_not_parse_documents_nothing(tmp_path):
    (tmp_path / "old.py").write_text("print 'python 2'")
    assert answers(ModuleAt("file", "old", "d", str(tmp_path / "old.py"))) == {}
    assert answers(ModuleAt("file", "gone", "d", str(tmp_path / "gone.py"))) == {}


def test_builtins_and_topics_are_covered():
    modules = {module.name: module for module in find_modules(["stdlib"])}
    joined = answers(modules["builtins"])["docs:builtins:str.join"]
    assert joined.startswith("Concatenate any number of strings.\n\n")
    topics = answers(modules["topics"], max_characters=2000)
    assert 'may only occur syntactically nested in a "for"' in topics["docs:topics:break"]


def test_private_modules_tests_and_site_packages_are_left_out():
    names = [module.name for module in find_modules(["stdlib"])]
    assert {"json", "os", "asyncio.tasks", "math", "builtins"} - set(names) <= {"math"}
    assert not [name for name in names if name.startswith(("test", "_", "site-packages", "pip."))]
    assert names == sorted(set(names))


def test_a_package_is_found_by_its_name_without_importing_it():
    code = """
    import sys
    from heliostat.data.config import PythonDocsSource
    from heliostat.data.python_docs import documents_of, plan_modules
    source = PythonDocsSource(packages=["jinja2", "stdlib"], max_documents=600)
    found = [d for m, _ in plan_modules(source) for d in documents_of(m, source, "docs")]
    print(len({d.domain for d in found}) > 1, len(found) > 600)
    print(len({d.uid for d in found}) == len(found))
    print("jinja2" in sys.modules, "turtle" in sys.modules, "tkinter" in sys.modules)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True", "False", "False", "False"]


def take(source: PythonDocsSource) -> list[str]:
    return [
        document.uid
        for module, limit in plan_modules(source)
        for document in list(documents_of(module, source, "docs"))[:limit]
    ]


def test_few_documents_are_a_mixture_and_always_the_same():
    some = take(PythonDocsSource(max_documents=120))
    assert len(some) == len(set(some)) == 120
    assert some == take(PythonDocsSource(max_documents=120))
    assert some[:100] == take(PythonDocsSource(max_documents=100))
    assert some != take(PythonDocsSource(max_documents=120, seed=1))
    assert len({uid.split(":")[1] for uid in some}) > 5


def test_the_fingerprint_names_the_versions():
    assert installation_fingerprint(["jinja2"]) != installation_fingerprint(["stdlib"])
    assert sys.version in installation_fingerprint(["stdlib"])


def test_a_distribution_without_python_code_documents_nothing():
    assert find_modules(["py-spy"]) == []  # Ray brings it: a program, and not a module
