"""Questions that hang, fail or are refused: each ends as a line, in its time."""

import subprocess
import sys
import time

from heliostat.control.checks import Check, Question, ask_all, ok
from heliostat.errors import ConfigError


def test_answers_come_in_the_order_of_the_questions():
    first = Question("slow", lambda: time.sleep(0.1) or ok("slow", "done"))
    second = Question("two", lambda: [ok("a", "1"), ok("b", "2")])
    assert [check.name for check in ask_all([first, second])] == ["slow", "a", "b"]


def refuse() -> Check:
    raise ConfigError("x.yaml:1: a: unknown key; did you mean 'b'?\nx.yaml:2: c: unknown key")


def test_a_foreseen_error_refuses_a_line_each_and_keeps_its_way_out():
    found = ask_all([Question("recipe", refuse)])
    assert [(each.status, each.says, each.mend) for each in found] == [
        ("refused", "x.yaml:1: a: unknown key", "did you mean 'b'?"),
        ("refused", "x.yaml:2: c: unknown key", None),
    ]


def test_a_fault_of_a_check_is_a_line():
    (found,) = ask_all([Question("odd", lambda: ok("odd", str(1 // 0)))])
    assert found.status == "warning"
    assert found.says == "could not be checked: ZeroDivisionError: integer division or modulo by zero"


def test_what_hangs_is_a_line_in_time_and_does_not_keep_the_process():
    code = (
        "import time\nfrom heliostat.control.checks import Question, ask_all, ok\n"
        "hangs = Question('disk', lambda: time.sleep(60), 0.3)\n"
        "print(*(c.says for c in ask_all([hangs, Question('b', lambda: ok('b', 'here'))])), sep='\\n')"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines() == ["no answer within 0.3 s", "here"], done.stderr
    assert time.monotonic() - started < 10
