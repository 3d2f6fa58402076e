"""The record of requests: whole lines, no keys, no growth for ever, no request held up."""

import json
import logging
import subprocess
import sys
import time

import pytest

from heliostat.errors import ServingError, StorageError
from heliostat.serving.access.audit import AuditEntry, AuditLog
from heliostat.serving.access.config import AuditConfig
from heliostat.storage import Storage


def entry(number: int = 0, **fields) -> AuditEntry:
    return AuditEntry(f"req-{number}", "10.0.0.1", "chat", 200, 12.5, **fields)


def log_in(folder, **config) -> AuditLog:
    return AuditLog(AuditConfig(folder=str(folder), **config))


def lines_of(*files) -> list[dict]:
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_a_request_is_one_line_of_json_with_what_is_known(tmp_path):
    log = AuditLog(AuditConfig(), Storage.at(tmp_path))
    log.write(entry(tenant="acme", key_prefix="sk-hs-1", model="m", completion_tokens=0, cache="exact"))
    log.close()
    (line,) = lines_of(tmp_path / "gateway" / "audit.jsonl")
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "request_id": "req-0",
        "address": "10.0.0.1",
        "route": "chat",
        "status": 200,
        "milliseconds": 12.5,
        "tenant": "acme",
        "key_prefix": "sk-hs-1",
        "model": "m",
        "completion_tokens": 0,
        "cache": "exact",
    }
    assert (tmp_path / "gateway" / "audit.jsonl").stat().st_mode & 0o007 == 0


def test_what_a_client_sent_cannot_break_or_forge_a_line(tmp_path):
    log = log_in(tmp_path)
    evil = 'm"}\n{"status": 200}\r\x1b[2J\u2028\x00\ud800'
    log.write(entry(model=evil))
    log.write(entry(1))
    log.close()
    content = (tmp_path / "audit.jsonl").read_bytes()
    assert content.count(b"\n") == 2
    assert b"\x1b" not in content
    assert [line["request_id"] for line in lines_of(tmp_path / "audit.jsonl")] == ["req-0", "req-1"]


@pytest.mark.parametrize("prompts", [False, True])
def test_the_text_is_recorded_only_when_asked_for(tmp_path, prompts):
    log = log_in(tmp_path, prompts=prompts)
    log.write(entry(prompt="my secret question"))
    log.close()
    assert ("my secret question" in (tmp_path / "audit.jsonl").read_text()) is prompts


def test_switched_off_it_leaves_nothing(tmp_path):
    log = log_in(tmp_path, enabled=False)
    log.write(entry())
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_full_files_are_put_aside_and_the_oldest_goes(tmp_path):
    log = log_in(tmp_path, max_file_bytes=1024, kept_files=3)
    for number in range(100):
        log.write(entry(number))
    log.close()
    files = sorted(tmp_path.glob("audit.jsonl*"), reverse=True)
    assert [file.name for file in files] == [f"audit.jsonl{end}" for end in (".3", ".2", ".1", "")]
    assert all(file.stat().st_size <= 1024 for file in files)
    kept = [line["request_id"] for line in lines_of(*files)]
    assert kept == [f"req-{number}" for number in range(100 - len(kept), 100)]
    assert log.lost == 0


@pytest.mark.heavy
def test_several_gateways_share_a_file_without_losing_or_mixing_lines(tmp_path):
    code = (
        "import sys; from heliostat.serving.access.audit import *;"
        f"log = AuditLog(AuditConfig(folder={str(tmp_path)!r}, max_file_bytes=20000, kept_files=50));"
        "[log.write(AuditEntry(f'{sys.argv[1]}-{n}', 'x' * 50, 'chat', 200, 1.0)) for n in range(500)];"
        "log.close(); print(log.lost)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(number)], stdout=subprocess.PIPE)
        for number in range(3)
    ]
    assert [process.communicate()[0].strip() for process in processes] == [b"0"] * 3
    written = [line["request_id"] for line in lines_of(*tmp_path.glob("audit.jsonl*"))]
    assert len(written) == len(set(written)) == 1500


def test_a_file_that_somebody_moves_away_is_made_anew(tmp_path):
    log = log_in(tmp_path)
    log.write(entry(1))
    while not (tmp_path / "audit.jsonl").stat().st_size:
        time.sleep(0.01)
    (tmp_path / "audit.jsonl").rename(tmp_path / "moved")
    log.write(entry(2))
    log.close()
    assert lines_of(tmp_path / "audit.jsonl")[0]["request_id"] == "req-2"


def test_a_full_disk_loses_entries_and_says_so_once(tmp_path, caplog):
    (tmp_path / "audit.jsonl").symlink_to("/dev/full")
    log = log_in(tmp_path)
    with caplog.at_level(logging.ERROR):
        for number in range(50):
            log.write(entry(number))
            time.sleep(0.001)
        log.close()
    assert log.lost == 50
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text


def test_a_folder_that_cannot_be_is_refused_at_start(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        log_in(tmp_path / "file" / "below")
    with pytest.raises(ServingError, match=r"set audit\.folder"):
        AuditLog(AuditConfig(), Storage.at("s3://bucket/workspace"))


def test_writing_takes_a_request_no_time(tmp_path):
    log = log_in(tmp_path)
    started = time.process_time()
    for number in range(2000):
        log.write(entry(number))
    assert (time.process_time() - started) / 2000 < 0.0005
    log.close()
    assert len(lines_of(tmp_path / "audit.jsonl")) + log.lost == 2000
