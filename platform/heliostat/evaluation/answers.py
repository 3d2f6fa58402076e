"""Answers kept in the run's folder as they come, so that a run that was killed asks nothing twice."""

import json
from pathlib import Path

from heliostat.evaluation.requests import Answer


class KeptAnswers:
    """A JSON lines file for each model and suite; a line is written whole or, after a kill, not read."""

    def __init__(self, folder: Path) -> None:
        """`folder` is kept between the attempts of a run."""
        self._folder = folder / "answers"

    def read(self, model: str, suite: str) -> dict[str, Answer]:
        """What is there, by the items' ids. A torn last line is cut off."""
        file = self._file(model, suite)
        if not file.is_file():
            return {}
        content = file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            file.write_bytes(whole)
        lines = [json.loads(line) for line in whole.splitlines()]
        return {line["id"]: line["answer"] for line in lines}

    def add(self, model: str, suite: str, answers: dict[str, Answer]) -> None:
        """Write more answers behind those that are there."""
        file = self._file(model, suite)
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"id": name, "answer": answer}) + "\n" for name, answer in answers.items()]
        with file.open("a", encoding="utf-8") as stream:
            stream.write("".join(lines))

    def _file(self, model: str, suite: str) -> Path:
        return self._folder / model / f"{suite}.jsonl"
