"""Locks and notes of use: held by living processes only, and safe against whoever clears them away."""

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from heliostat.errors import ArtifactError
from heliostat.locks import gate, holders, lock, note_use, paths_in_use, remove_stale_locks, using
from heliostat.storage import Storage

HOLD = """
    import sys
    from heliostat.locks import lock, note_use, using
    from heliostat.storage import Storage
    storage = Storage.at(sys.argv[1])
    with using(storage), lock(storage, "models/a"):
        note_use(storage, "models/a", "models/b")
        print("held", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def storage(tmp_path) -> Storage:
    return Storage.at(tmp_path)


@pytest.fixture
def other_process(storage):
    """Another process that holds a lock and uses two artifacts until it is killed."""
    command = [sys.executable, "-c", textwrap.dedent(HOLD), storage.root]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.heavy
def test_what_another_process_holds_is_seen_until_it_is_killed(storage, other_process):
    assert holders(storage) == {"models-a": f"process {other_process.pid}"}
    assert set(paths_in_use(storage)) == {"models/a", "models/b"}
    with (
        pytest.raises(ArtifactError, match=f"an identical run is going on \\(process {other_process.pid}\\)"),
        lock(storage, "models/a"),
    ):
        pass
    assert remove_stale_locks(storage, delete=True) == []
    other_process.kill()
    other_process.wait()
    assert (holders(storage), paths_in_use(storage)) == ({}, {})
    stale = remove_stale_locks(storage, delete=False)
    assert len(stale) == 2
    assert remove_stale_locks(storage, delete=True) == stale
    assert remove_stale_locks(storage, delete=True) == []


def test_a_use_ends_with_the_outermost_block(storage):
    with using(storage):
        with using(storage):
            note_use(storage, "models/a")
        assert set(paths_in_use(storage)) == {"models/a"}
    assert paths_in_use(storage) == {}
    note_use(storage, "models/a")  # outside of a block: nothing is noted
    assert paths_in_use(storage) == {}


def test_what_fails_inside_a_lock_comes_out_of_it(storage):
    with pytest.raises(FileNotFoundError), lock(storage, "models/a"):
        Path(storage.root, "nowhere").read_text()


def test_a_lock_that_was_cleared_away_while_one_waited_is_taken_anew(storage):
    """Else two would hold it: one the file that is gone, one its successor."""
    got, done = threading.Event(), threading.Event()

    def wait_for_it() -> None:
        with gate(storage):
            got.set()
            done.wait()

    with gate(storage, exclusive=True):
        waiting = threading.Thread(target=wait_for_it)
        waiting.start()
        assert not got.wait(0.2)
        Path(storage.uri(".locks/gate")).unlink()
    assert got.wait(10)
    entered = threading.Event()

    def go_first() -> None:
        with gate(storage, exclusive=True):
            entered.set()

    second = threading.Thread(target=go_first)
    second.start()
    assert not entered.wait(0.2)
    done.set()
    assert entered.wait(10)
    waiting.join()
    second.join()


@pytest.mark.heavy
def test_on_an_object_store_notes_count_too(s3_root):
    storage = Storage.at(s3_root)
    with using(storage):
        note_use(storage, "models/a")
        assert set(paths_in_use(storage)) == {"models/a"}
        assert remove_stale_locks(storage, delete=True) == []
    assert paths_in_use(storage) == {}
