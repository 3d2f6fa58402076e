"""The benchmark counts right: on cases small enough to count by hand."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.bench.bars import BARS, judge
from tests.bench.figures import bar_figures
from tests.bench.measure import CommandFailed, Disturbance, kill_all, run_measured
from tests.bench.scoring import Share, contents_hash, personal_data_found, score_dedup
from tests.bench.session import OURS, Run

pytestmark = pytest.mark.slow


def row(name: str, kind: str = "base", family: str | None = None, jaccard: float | None = None) -> dict:
    return {"id": name, "kind": kind, "family": family or name, "jaccard": jaccard, "pii": []}


TRUTH = [
    row("single"),
    row("original"),
    row("copy 1", "exact", "original"),
    row("copy 2", "exact", "original"),
    row("edited"),
    row("edit, 0.85", "near", "edited", 0.85),
    row("altered"),
    row("edit, 0.55", "near", "altered", 0.55),
    row("invoice 1", "invoice"),
    row("invoice 2", "invoice"),
    row("short", "short"),
    row("empty", "empty"),
]
EVERYTHING = [each["id"] for each in TRUTH]


def score(*gone: str, accounted: tuple[str, ...] = ()):
    return score_dedup(TRUTH, [name for name in EVERYTHING if name not in gone], accounted)


def test_what_keeps_everything_finds_nothing_and_deletes_nothing():
    found = score()
    assert (str(found.exact), str(found.near_high)) == ("0/2", "0/1")
    assert found.num_false_deletions == 0
    assert found.kept == 12


def test_perfect_dedup_has_full_marks():
    found = score("copy 1", "original", "edit, 0.85", "altered")
    assert found.exact == Share(2, 2)
    assert found.near["0.8-0.9"] == Share(1, 1) == found.near_high
    assert found.near["0.5-0.6"] == Share(1, 1)
    assert found.near["0.9-1.0"] == Share(0, 0)
    assert found.num_false_deletions == 0


def test_a_family_that_is_gone_altogether_is_one_false_deletion_and_no_find():
    found = score("edited", "edit, 0.85")
    assert found.false_deletions["whole families"] == Share(1, 3)
    assert found.near_high == Share(0, 1)
    assert score("original", "copy 1", "copy 2").exact == Share(2, 2)
    assert score("original", "copy 1", "copy 2").num_false_deletions == 1


def test_each_kind_of_false_deletion_is_counted():
    found = score("single", "invoice 2", "short", "empty").false_deletions
    assert {kind: str(share) for kind, share in found.items() if share.count} == {
        "invoice": "1/2",
        "under five words": "1/1",
        "empty, unaccounted": "1/1",
        "unrelated": "1/1",
    }


def test_an_empty_document_may_go_when_it_is_accounted_for():
    assert score("empty", accounted=("empty",)).num_false_deletions == 0


@pytest.mark.parametrize("kept", [["single", "single"], ["nobody"]])
def test_a_document_kept_twice_or_made_up_is_refused(kept):
    with pytest.raises(ValueError, match="kept"):
        score_dedup(TRUTH, kept)


def test_the_hash_of_the_contents_ignores_order_and_nothing_else():
    assert contents_hash(["a", "b", "b"]) == contents_hash(["b", "a", "b"])
    assert contents_hash(["a", "b", "b"]) != contents_hash(["a", "b"])
    assert contents_hash(["ab"]) != contents_hash(["a", "b"])
    assert len({contents_hash(["\ud800"]), contents_hash(["\udfff"])}) == 2, "halves of surrogate pairs"


def test_personal_data_counts_where_its_document_is_still_there():
    span = {"kind": "email", "start": 3, "end": 15, "value": "a@example.com"}
    truth = [{**row(name), "pii": [span]} for name in ("left", "redacted", "dropped")]
    found = personal_data_found(truth, {"left": "to a@example.com", "redacted": "to [EMAIL]"})
    assert found == {"email": Share(1, 2)}


def test_bars_of_speed_count_from_scale_one_on_and_bars_of_truth_always():
    figures = {"signature_speedup": 29.0, "false_deletions": 1.0, "packing_waste": 0.01}
    small, large = ({verdict.name: verdict for verdict in judge(figures, scale)} for scale in (0.1, 1))
    assert not small["signature_speedup"].counts
    assert large["signature_speedup"].counts
    assert not large["signature_speedup"].cleared
    assert small["false_deletions"].counts
    assert not small["false_deletions"].cleared
    assert small["packing_waste"].cleared
    assert large.keys() == figures.keys() <= BARS.keys()


def test_other_kept_sets_and_bad_receipts_are_counted_over_all_runs():
    runs = [
        Run("dedup", OURS, None, {"contents": "x", "balances": True, "score": score()}),
        Run("same", "once", None, {"contents": "x", "balances": True}),
        Run("same", "other order", None, {"contents": "y", "balances": False}),
    ]
    figures = bar_figures(runs)
    assert figures["different_kept_sets"] == 1
    assert figures["unbalanced_receipts"] == 1
    assert figures["false_deletions"] == 0
    assert "recall_lead" not in figures, "datatrove was not run"


SPIN = "import time\nstop = time.process_time() + {seconds}\nwhile time.process_time() < stop: pass\n"


def python(tmp_path: Path, code: str) -> list[str | Path]:
    file = tmp_path / "code.py"
    file.write_text(code)
    return [sys.executable, file]


@pytest.mark.heavy
def test_the_cpu_time_of_a_detached_grandchild_counts(tmp_path):
    child = SPIN.format(seconds=3)
    start = f"subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)"
    code = f"import subprocess, sys\n{start}\n"
    usage = run_measured(python(tmp_path, code), tmp_path / "log")
    assert 2 < usage.cpu_seconds < 6


@pytest.mark.heavy
def test_peak_memory_counts_what_forks_share_once_and_shared_memory_too(tmp_path):
    code = """
import multiprocessing.shared_memory, os, time
held = bytearray(os.urandom(1)) * 100_000_000
shared = multiprocessing.shared_memory.SharedMemory(create=True, size=50_000_000)
shared.buf[:] = bytes(50_000_000)
child = os.fork()
time.sleep(1.5)
if child:
    os.wait()
    shared.unlink()
else:
    os._exit(0)
"""
    usage = run_measured(python(tmp_path, code), tmp_path / "log")
    assert 95e6 < usage.peak_bytes - usage.shared_bytes < 180e6
    assert usage.shared_bytes > 45e6


@pytest.mark.heavy
def test_a_command_that_fails_says_why(tmp_path):
    with pytest.raises(CommandFailed, match="no such mirror"):
        run_measured(python(tmp_path, "raise SystemExit('no such mirror')"), tmp_path / "log")


@pytest.mark.heavy
def test_a_disturbed_command_may_be_killed(tmp_path):
    command = python(tmp_path, "import time\ntime.sleep(60)")
    usage = run_measured(command, tmp_path / "log", disturbance=Disturbance(0.8, kill_all))
    assert usage.exit_code == -9
    assert usage.wall_seconds < 20


@pytest.mark.heavy
def test_a_command_that_ends_before_it_was_disturbed_is_no_proof(tmp_path):
    with pytest.raises(CommandFailed, match="before anything could be done"):
        run_measured(python(tmp_path, ""), tmp_path / "log", disturbance=Disturbance(5, kill_all))


@pytest.mark.heavy
def test_the_benchmark_knows_its_parts():
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.data_benchmark", "--only", "nothing"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 2
    for part in ("dedup", "filters", "tokenize", "same", "ten-times"):
        assert part in done.stderr
