"""The processes of the sides: started, waited for, spoken to and ended."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from tests.bench.serving_usage import ProcessTree

START_SECONDS = 900
STOP_SECONDS = 30


class SideFailed(RuntimeError):
    """A side did not start, or did not do what was asked."""


@contextmanager
def piped(command: Sequence[str | Path], log: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that is spoken to, and ends when its standard input does."""
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        yield process
    finally:
        assert process.stdin
        with suppress(OSError):
            process.stdin.close()
        end(process)


@contextmanager
def served(
    command: Sequence[str | Path], port: int, health: str, log: Path, environment: Mapping[str, str] = {}
) -> Iterator["subprocess.Popen[bytes]"]:
    """A server, from when it answers."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
    try:
        wait_for(f"http://127.0.0.1:{port}{health}", process, log)
        yield process
    finally:
        process.terminate()
        end(process)


def end(process: "subprocess.Popen[Any]") -> None:
    tree = ProcessTree(process.pid).descendants()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for left in tree:
        with suppress(psutil.Error):
            left.kill()


def wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
            raise SideFailed(f"{process.args} ended with {process.returncode}; the end of {log}:\n{tail}")
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.5)
    raise SideFailed(f"nothing answers at {url}; see {log}")


def answer_line(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout
    for line in process.stdout:  # a library may print before
        if line.startswith("{"):
            said: dict[str, Any] = json.loads(line)
            return said
    raise SideFailed(f"{process.args} ended without an answer; its log says why")


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
