"""Publishing is all or nothing: under SIGKILL at every moment, on a full disk, in places that refuse."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from tests.processes import prepared

from heliostat.errors import ArtifactError, StorageError
from heliostat.locks import lock
from heliostat.storage import Storage, find_artifact, publish, staging

pytestmark = pytest.mark.heavy

WRITER = textwrap.dedent(
    """
    import sys
    from heliostat.storage import Storage, publish, staging

    def make(root, text, count=3):
        with staging(Storage.at(root), "models/m") as publication:
            for number in range(count):
                (publication.folder / f"part-{number}").write_text(text * 1000)
            (publication.folder / "tokenizer").mkdir()
            (publication.folder / "tokenizer" / "vocabulary").write_text(text)
            publish(publication, "model", "key", {"text": text})
    """
)


def make(storage: Storage, text: str = "x"):
    with staging(storage, "models/m") as publication:
        (publication.folder / "weights").write_text(text)
        return publish(publication, "model", "key", {"text": text})


def is_whole(storage: Storage, path: str) -> bool:
    """Whether there is an artifact; if so, every one of its files must be there with the right content."""
    artifact = find_artifact(storage, path)
    if artifact is None:
        return False
    for entry in artifact.files:
        content = storage.read_bytes(f"{path}/{entry.path}")
        assert hashlib.sha256(content).hexdigest() == entry.sha256
    return True


def leftovers(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if not path.name.startswith(".lock-")]


# Killed in the middle.

KILL_AT_LINE = WRITER + textwrap.dedent(
    """
    import os, signal
    import heliostat.records, heliostat.storage

    def killed_at(line, root, text):
        '''Run make() in a fork that sends itself SIGKILL before its line-th line inside storage.py.'''
        child = os.fork()
        if child == 0:
            left = line
            def trace(frame, event, _):
                nonlocal left
                if frame.f_code.co_filename != heliostat.storage.__file__:
                    return None
                if event == "line":
                    left -= 1
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                return trace
            sys.settrace(trace)
            make(root, text)
            os._exit(0)
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])

    root, first = sys.argv[1], int(sys.argv[2])
    heliostat.records.Provenance.collect()  # fills its caches before the forks
    if sys.argv[3:]:
        make(f"{root}/0", "old")
    """
)


@pytest.mark.parametrize("replacing", [False, True], ids=["new", "replacing an older one"])
def test_kill_at_every_line_of_publishing_leaves_all_or_nothing(tmp_path, replacing):
    """Every line of storage.py that publishing runs through, one death at each."""
    loop = """
    line = first
    while killed_at(line, f"{root}/{line}", "new"):
        line += 1
    print(line)
    """
    if replacing:
        loop = loop.replace("while killed_at", "make(f'{root}/{line}', 'old')\n    while killed_at")
        loop = loop.replace("line += 1", "line += 1; make(f'{root}/{line}', 'old')")
    script = KILL_AT_LINE + textwrap.dedent(loop)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), "1"], capture_output=True, text=True, check=True
    )
    last = int(done.stdout)
    whole = [is_whole(Storage.at(tmp_path / str(line)), "models/m") for line in range(1, last)]
    assert last > 60
    assert len(set(whole)) == 2, "some deaths must come too early and some after the end"
    assert is_whole(Storage.at(tmp_path / str(last)), "models/m")


@pytest.mark.parametrize("delay_seconds", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_kill_from_outside_at_any_moment_leaves_all_or_nothing(tmp_path, delay_seconds):
    script = WRITER + "print('go', flush=True)\nwhile True: make(sys.argv[1], 'x', 40)\n"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline() == "go\n"
        time.sleep(delay_seconds)
        child.send_signal(signal.SIGKILL)
    is_whole(Storage.at(tmp_path), "models/m")
    make(Storage.at(tmp_path))  # the next run works, and sweeps up what the killed one left
    assert os.listdir(tmp_path / "models") == ["m"]


@pytest.mark.parametrize(
    "moment", ["CERTIFICATE_NAME", "storage.delete(path)", "pafs.copy_files", "storage.write_bytes"]
)
def test_kill_while_uploading_leaves_all_or_nothing(s3_root, tmp_path, moment):
    """On an object store the certificate comes last; a death before that, also over an older artifact."""
    place, mark, options = s3_root.partition("?")
    storage = Storage.at(f"{place}/{tmp_path.name}{mark}{options}")
    make(storage, "old")
    script = WRITER + textwrap.dedent(
        """
        import inspect, os, signal
        import heliostat.storage
        lines, start = inspect.getsourcelines(heliostat.storage._upload)
        fatal = start + next(n for n, line in enumerate(lines) if sys.argv[2] in line)
        def trace(frame, event, _):
            if frame.f_code is not heliostat.storage._upload.__code__:
                return None
            def inner(frame, event, _):
                if event == "line" and frame.f_lineno == fatal:
                    os.kill(os.getpid(), signal.SIGKILL)
                return inner
            return inner
        sys.settrace(trace)
        make(sys.argv[1], "new")
        """
    )
    done = subprocess.run([sys.executable, "-c", script, storage.root, moment], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert is_whole(storage, "models/m") == (moment == "CERTIFICATE_NAME")


# Locks.

HOLDER = """
import sys, time
from heliostat.locks import lock
from heliostat.storage import Storage
with lock(Storage.at(sys.argv[1]), "models/m"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_who_works_and_a_killed_one_lets_go(tmp_path):
    storage = Storage.at(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(ArtifactError, match=f"identical run is going on .process {holder.pid}"),
            lock(storage, "models/m"),
        ):
            pass
        with lock(storage, "models/other"):
            pass
        holder.send_signal(signal.SIGKILL)
    with lock(storage, "models/m"):
        pass


# Places that refuse.


@pytest.mark.parametrize("root", ["/proc/heliostat", "/dev/null/below"])
def test_an_unwritable_place_is_one_line(root):
    """These refuse even root: /proc takes no files, and a device is no folder."""
    for attempt in (lambda: Storage.at(root).check_writable(), lambda: make(Storage.at(root))):
        with pytest.raises(StorageError) as caught:
            attempt()
        assert root.split("/")[1] in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_unwritable_lock_is_one_line():
    with pytest.raises(StorageError), lock(Storage.at("/proc/heliostat"), "models/m"):
        pass


def test_a_file_in_the_way_of_the_workspace_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError) as caught:
        Storage.at(tmp_path / "file").check_writable()
    assert "\n" not in str(caught.value)


FILL = WRITER + textwrap.dedent(
    """
    import numpy as np, pyarrow as pa, pyarrow.parquet as pq
    from heliostat.errors import StorageError
    def fill_plain(folder):
        (folder / "weights").write_bytes(bytes(2_000_000))
    def fill_parquet(folder):
        pq.write_table(pa.table({"x": np.random.default_rng(0).random(500_000)}), folder / "part.parquet")
    def fill_certificate(folder):
        for number in range(300):  # the files are small, but the certificate that lists them is not
            (folder / f"{number:0200d}").write_bytes(b"")
    try:
        with staging(Storage.at(sys.argv[1]), "models/m") as publication:
            globals()[sys.argv[2]](publication.folder)
            if len(sys.argv) > 3:
                import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
            publish(publication, "model", "key", {})
    except StorageError as error:
        print(error)
    """
)


@pytest.mark.parametrize("writer", ["fill_plain", "fill_parquet"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, writer):
    """On a file system of one megabyte where mounting one is allowed, else under a limit on file sizes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True
    )
    try:
        command: list[str | Path] = [sys.executable, "-c", FILL, str(disk), writer]
        if mounted.returncode:
            command = prepared("resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))", command)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert len(done.stdout.splitlines()) == 1, done.stdout + done.stderr
        if mounted.returncode == 0:
            assert "the disk is full" in done.stdout
        assert leftovers(disk) == [str(disk / "models")]
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", str(disk)], check=True)


def test_a_certificate_that_does_not_fit_leaves_nothing(tmp_path):
    command = [sys.executable, "-c", FILL, str(tmp_path), "fill_certificate", "limit"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "artifact.json" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert leftovers(tmp_path) == [str(tmp_path / "models")]
