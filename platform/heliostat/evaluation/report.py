"""An evaluation's report as files: JSON for programs, Markdown for people."""

import json
from pathlib import Path
from typing import Any

from heliostat.models.perplexity import Score

JSON_NAME = "report.json"
MARKDOWN_NAME = "report.md"


def write_report(folder: Path, title: str, facts: dict[str, Any], scores: dict[str, Score]) -> None:
    """Write both files; `facts` is what the certificate holds, `scores` adds the time each model took."""
    report = {"title": title, **facts, "seconds": {name: score.seconds for name, score in scores.items()}}
    (folder / JSON_NAME).write_text(json.dumps(report, indent=2) + "\n")
    lines = [
        f"# {title}",
        "",
        f"{facts['num_documents']} documents, {facts['tokens']} tokens, {facts['num_labels']} scored.",
        "",
        "| model | perplexity | loss | seconds |",
        "|---|---:|---:|---:|",
        *(
            f"| {name} | {score.perplexity:.3f} | {score.loss:.4f} | {score.seconds:.1f} |"
            for name, score in scores.items()
        ),
        "",
    ]
    (folder / MARKDOWN_NAME).write_text("\n".join(lines))
