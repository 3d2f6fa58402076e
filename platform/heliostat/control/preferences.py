"""Votes: which of several answers a person prefers, kept as the preference pairs that the data stage reads.

One JSON object a line, a file a day, below `feedback/preferences` in the workspace; on an object store, which
cannot append, a file a vote. A recipe reads the folder: `data: {sources: [{kind: jsonl, path: FOLDER}]}`.
"""

import fcntl
import json
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from heliostat.control.roles import Actor, Role, require
from heliostat.errors import ConfigError
from heliostat.records import Record, first_problem
from heliostat.storage import explain_os_errors
from heliostat.workspace import Workspace

FOLDER = "feedback/preferences"
ROLE: Role = "operator"
"""A vote becomes training data."""
MOST_CHARACTERS = 1_000_000


class Candidate(Record):
    """An answer and what gave it; `artifact_id` is that of the version's model, where it is known."""

    text: str
    endpoint: str
    version: str = ""
    artifact_id: str = ""


class Preference(Record):
    """One vote in the data stage's form `preference`: prompt, chosen, rejected; the rest says whose."""

    prompt: tuple[dict[str, str], ...]
    chosen: tuple[dict[str, str], ...]
    rejected: tuple[dict[str, str], ...]
    chosen_from: dict[str, str]
    rejected_from: dict[str, str]
    voter: str
    voted_at: str
    id: str


@dataclass(frozen=True)
class Votes:
    """How many votes there are, and who won: by `ENDPOINT VERSION`, how often it was chosen and rejected."""

    number: int
    wins: dict[str, int]
    losses: dict[str, int]


def vote(
    actor: Actor,
    workspace: Workspace,
    prompt: Sequence[dict[str, str]],
    chosen: Candidate,
    rejected: Sequence[Candidate],
) -> list[Preference]:
    """Keep that `chosen` is better than each of `rejected` behind the same prompt; what was kept.

    An answer that equals the chosen one teaches nothing and is left out.

    Raises:
        AccessError: this one may not.
        ConfigError: nothing is left to compare, or an answer is empty.
        StorageError: it cannot be written.
    """
    require(actor, ROLE, "add to the preference data")
    others = [each for each in rejected if each.text.strip() != chosen.text.strip()]
    if not chosen.text.strip() or any(not each.text.strip() for each in others):
        raise ConfigError("an answer is empty: a vote compares answers that were given")
    if not others:
        raise ConfigError("the answers are the same: a vote needs two that differ")
    if sum(len(each.text) for each in (chosen, *others)) > MOST_CHARACTERS:
        raise ConfigError(f"the answers have more than {MOST_CHARACTERS:,} characters")
    kept = [_preference(actor, prompt, chosen, each) for each in others]
    _append(workspace, "".join(f"{_line(each)}\n" for each in kept).encode())
    return kept


def folder_of(workspace: Workspace) -> str:
    """Where the votes lie: what a recipe's `data.sources` takes as `path`."""
    return workspace.storage.uri(FOLDER)


def read_votes(workspace: Workspace) -> Iterator[Preference]:
    """Every vote, the oldest day first.

    Raises:
        ConfigError: a line is none; names the file and the line.
    """
    for name in _files(workspace):
        lines = workspace.storage.read_bytes(f"{FOLDER}/{name}").decode().splitlines()
        for number, line in enumerate(lines, 1):
            try:
                yield Preference.model_validate_json(line)
            except ValidationError as error:
                place = workspace.storage.uri(f"{FOLDER}/{name}")
                raise ConfigError(f"{place}:{number}: not a vote: {first_problem(error)}") from None


def count_votes(workspace: Workspace) -> Votes:
    """How many there are, and who won; errors as `read_votes`."""
    number, wins, losses = 0, dict[str, int](), dict[str, int]()
    for each in read_votes(workspace):
        number += 1
        for tally, source in ((wins, each.chosen_from), (losses, each.rejected_from)):
            name = " ".join(filter(None, (source.get("endpoint"), source.get("version"))))
            tally[name] = tally.get(name, 0) + 1
    return Votes(number, wins, losses)


def export_votes(workspace: Workspace) -> bytes:
    """All votes as one JSONL file."""
    return b"".join(workspace.storage.read_bytes(f"{FOLDER}/{name}") for name in _files(workspace))


def _preference(
    actor: Actor, prompt: Sequence[dict[str, str]], chosen: Candidate, rejected: Candidate
) -> Preference:
    return Preference(
        prompt=tuple(prompt),
        chosen=({"role": "assistant", "content": chosen.text},),
        rejected=({"role": "assistant", "content": rejected.text},),
        chosen_from=_source(chosen),
        rejected_from=_source(rejected),
        voter=actor.user,
        voted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        id=uuid.uuid4().hex,
    )


def _source(candidate: Candidate) -> dict[str, str]:
    return candidate.model_dump(exclude={"text"})


def _line(preference: Preference) -> str:
    values: dict[str, Any] = preference.model_dump(mode="json")
    return json.dumps(values)  # ASCII: half a pair of surrogates, too, comes back as it was


def _files(workspace: Workspace) -> list[str]:
    return [name for name in workspace.storage.list(FOLDER) if name.endswith(".jsonl")]


def _append(workspace: Workspace, lines: bytes) -> None:
    """Add whole lines to the day's file: others may write at the same moment, and one may have been killed
    in the middle of a line."""
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    if workspace.storage.remote:
        workspace.storage.write_bytes(f"{FOLDER}/{day}-{uuid.uuid4().hex}.jsonl", lines)
        return
    path = Path(workspace.storage.uri(f"{FOLDER}/{day}.jsonl"))
    with explain_os_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if path.exists() else "a+b", buffering=0) as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            _drop_half_a_line(stream)
            stream.write(lines)
            os.fsync(stream.fileno())


def _drop_half_a_line(stream: Any) -> None:
    """Leave the position behind the last whole line, and nothing behind it."""
    end = stream.seek(0, os.SEEK_END)
    while end:
        stream.seek(end - 1)
        if stream.read(1) == b"\n":
            break
        end -= 1
    stream.truncate(end)
    stream.seek(end)
