"""Commands that prepare themselves before they begin."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HEAR_CTRL_C = "signal.signal(signal.SIGINT, signal.SIG_DFL)"
"""A shell starts what it puts into the background deaf to Ctrl-C, and the tests may run there."""


def prepared(statement: str, command: Sequence[str | Path]) -> list[str | Path]:
    """The command, run by a process that executes a Python statement first.

    Not `preexec_fn`: with it Python forks where it would only start a process, and the gRPC of a Ray driver,
    as the tests are, hangs or crashes some time after a fork.
    """
    code = f"import os, resource, signal, sys; {statement}; os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", code, *command]


def end(process: subprocess.Popen) -> None:
    """Ask a process that has a group of its own to end; where it does not within a minute, end the group.

    Raises:
        TimeoutExpired: it did not.
    """
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
