"""A saved state says what it belongs to, in plain JSON, before any weight of it is read."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace

import pytest

from heliostat.errors import ArtifactError
from heliostat.training.edge_state import (
    NOTE_NAME,
    STATE_PREFIX,
    StateNote,
    forget_states_left_behind,
    must_convert,
    read_note,
)

LAYOUT = {"tensor_parallel": 1, "pipeline_parallel": 1, "expert_parallel": 1, "sequence_parallel": 1}
NOTE = StateNote(steps_done=40, num_workers=2, zero_stage=2, model="a" * 64, layout=LAYOUT)


@pytest.fixture
def saved(tmp_path):
    (tmp_path / NOTE_NAME).write_text(json.dumps(asdict(NOTE)))
    return tmp_path


def test_a_state_is_taken_up_by_another_number_of_workers_in_another_form(saved):
    note = read_note(saved, replace(NOTE, num_workers=1, steps_done=0))
    assert note == NOTE
    assert must_convert(note, 1)
    assert not must_convert(note, 2)
    assert not must_convert(replace(note, zero_stage=0), 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "b" * 64}, r"a checkpoint of another model \(aaaaaaaaaaaa, not bbbbbbbbbbbb\)"),
        ({"zero_stage": 3}, "saved under another layout"),
        ({"layout": LAYOUT | {"tensor_parallel": 2}}, "only the number of replicas can change"),
    ],
)
def test_a_state_of_something_else_is_refused_in_one_line(saved, change, words):
    with pytest.raises(ArtifactError, match=words) as raised:
        read_note(saved, replace(NOTE, **change))
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("content", [None, "", "{", '{"steps_done": 3}'])
def test_a_note_that_is_missing_or_broken_is_refused_in_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / NOTE_NAME).write_text(content)
    with pytest.raises(ArtifactError, match="not a training state of this version"):
        read_note(tmp_path, NOTE)


def test_states_that_a_dead_worker_left_behind_are_removed_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True)
    ours, theirs = os.getpid(), int(dead.stdout)
    old = {f"{STATE_PREFIX}{ours}-a", f"{STATE_PREFIX}{theirs}-b", f"{STATE_PREFIX}x-c", "other"}
    young = {f"{STATE_PREFIX}{theirs}-d"}
    for name in old | young:
        (tmp_path / name).mkdir()
    for name in old:
        os.utime(tmp_path / name, (0, 0))
    forget_states_left_behind()
    assert {each.name for each in tmp_path.iterdir()} == (old | young) - {f"{STATE_PREFIX}{theirs}-b"}
