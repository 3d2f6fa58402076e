"""Commands that prepare themselves before they begin."""

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
