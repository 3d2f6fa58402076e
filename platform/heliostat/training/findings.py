"""What the watchers of a run found, as a file in its folder: written by the controller, read by people."""

import json
from dataclasses import asdict
from pathlib import Path

from heliostat.training.watchers import Finding

FINDINGS_FILE = "findings.jsonl"


def note_finding(folder: Path, finding: Finding) -> None:
    """Add a finding."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FINDINGS_FILE).open("a") as stream:
        stream.write(json.dumps(asdict(finding)) + "\n")


def read_findings(folder: Path) -> list[Finding]:
    """All findings, oldest first; a line that is being written is left for the next time."""
    file = folder / FINDINGS_FILE
    return parse_findings(file.read_text()) if file.exists() else []


def parse_findings(text: str) -> list[Finding]:
    """The same of a file's text.

    Raises:
        ValueError, TypeError: a line is no finding of this version.
    """
    lines = text.splitlines(keepends=True)
    return [Finding(**json.loads(line)) for line in lines if line.endswith("\n")]


def forget_findings(folder: Path) -> None:
    """Start anew: what an earlier attempt was stopped for is not why this one stops."""
    (folder / FINDINGS_FILE).unlink(missing_ok=True)
