"""Which of a run's states the page says that a retry goes on from."""

import json

import pytest

from heliostat.control.sites import Site
from heliostat.control.work_page import checkpoints_of

FOLDER = "runs/train-0123456789ab/checkpoints"
FIRST, SECOND = (f"checkpoint_2026-11-30_12-51-2{second}.000000" for second in (4, 5))


@pytest.fixture
def site(tmp_path) -> Site:
    """A workspace with a run that wrote two states."""
    site = Site.open(str(tmp_path))
    for name, step in ((FIRST, 30), (SECOND, 40)):
        state = json.dumps({"steps_done": step}).encode()
        site.workspace.storage.write_bytes(f"{FOLDER}/{name}/state.json", state)
    return site


def note(site: Site, content: bytes) -> None:
    site.workspace.storage.write_bytes(f"{FOLDER}/checkpoint_manager_snapshot.json", content)


def noting(*names: str) -> bytes:
    return json.dumps({"checkpoint_results": [{"checkpoint_dir_name": name} for name in names]}).encode()


def steps(site: Site) -> list[int | None]:
    return [each.step for each in checkpoints_of(site, "train-0123456789ab")]


def test_the_latest_comes_first(site):
    note(site, noting(FIRST, SECOND))
    assert steps(site) == [40, 30]


def test_a_state_whose_worker_was_killed_before_it_was_noted_is_not_promised(site):
    note(site, noting(FIRST))
    assert steps(site) == [30]


def test_without_a_note_a_run_begins_again(site):
    assert steps(site) == []


def test_a_noted_state_that_has_gone_is_left_out(site):
    note(site, noting("checkpoint_2026-11-30_12-51-20.000000", FIRST))
    assert steps(site) == [30]


@pytest.mark.parametrize("content", [noting(FIRST, SECOND)[:-9], b"[]", b'{"checkpoint_results": [1]}'])
def test_a_note_that_is_just_being_written_hides_nothing(site, content):
    note(site, content)
    assert steps(site) == [40, 30]
