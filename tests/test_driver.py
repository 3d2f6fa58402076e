"""Whether the process on record lives: told for certain, or not at all."""

import os
import subprocess
import sys

import pytest

from heliostat.driver import Driver

SAY_WHO = (
    "import sys; from heliostat.driver import Driver; print(Driver.here().model_dump_json(), flush=True)"
)


@pytest.fixture
def other() -> tuple[Driver, subprocess.Popen]:
    """Another process that waits, and what it noted of itself."""
    command = [sys.executable, "-c", f"{SAY_WHO}; sys.stdin.read()"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield Driver.model_validate_json(process.stdout.readline()), process
    process.kill()
    process.communicate()


def test_this_process_lives():
    assert Driver.here().alive is True


@pytest.mark.heavy
def test_one_that_was_killed_is_dead_at_once_and_when_it_was_taken_note_of(other):
    driver, process = other
    assert driver.alive is True
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert driver.alive is False
    process.wait()
    assert driver.alive is False


def test_another_process_of_the_same_number_is_not_the_one():
    here = Driver.here()
    assert here.model_copy(update={"started": here.started - 60}).alive is False


def test_of_another_machine_nothing_is_known_whatever_has_the_number_here():
    here = Driver.here()
    assert here.model_copy(update={"machine": "elsewhere"}).alive is None
    assert here.model_copy(update={"machine": "elsewhere", "process": 2**22 + 1}).alive is None
