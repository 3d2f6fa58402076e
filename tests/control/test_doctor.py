"""The doctor on this machine: each check with its worst input, and none that takes the doctor down."""

import socket
import stat
import subprocess
import sys
import time

import pytest
from recorded_ray import answering, recorded

from heliostat.control import doctor_torch
from heliostat.control.answers import mappings
from heliostat.control.doctor import examine
from heliostat.control.doctor_cluster import check_node_clocks, check_nodes
from heliostat.control.doctor_deep import judge
from heliostat.control.doctor_machine import (
    check_disks,
    check_memory,
    check_open_files,
    check_shared_memory,
    check_token_file,
    judge_disk,
)
from heliostat.control.doctor_network import check_ports, check_proxies, check_redis
from heliostat.control.doctor_packages import check_packages, check_python, wrong_packages
from heliostat.control.doctor_torch import check_extensions_folder, check_torch, judge_torch
from heliostat.control.head import Head, check_clock
from heliostat.control.ray_api import RayApi
from heliostat.control.ray_state import read_nodes
from heliostat.workspace import Workspace

TORCH = {"version": "2.13.0", "sum": 512.0, "distributed": True, "devices": ["H200"], "nccl": "2.27.3"}


def test_this_environment_is_the_one_that_is_asked_for():
    assert check_python().status == "ok"
    assert [each.status for each in check_packages()] == ["ok"]


def test_a_package_that_is_missing_or_of_another_release_is_named_with_its_pin():
    assert wrong_packages(["pydantic<2", "no-such-thing>=1", "x; python_version < '3'"]) == [
        ("pydantic<2", f"pydantic is {__import__('pydantic').VERSION}, pydantic<2 is needed"),
        (
            "no-such-thing>=1",
            "no-such-thing is not installed, no-such-thing>=1 is needed",
        ),
    ]


@pytest.mark.heavy
def test_torch_that_loads_says_what_it_is():
    checks = check_torch()
    assert [check.status for check in checks if check.name == "torch"] == ["ok"], checks


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'ImportError: libcudart.so: no such file' >&2; exit 1", "ImportError: libcudart.so"),
        ("kill -SEGV $$", "ended with exit code -11"),
        ("sleep 60", "took longer than 0.5 s"),
    ],
)
def test_a_torch_that_is_broken_crashes_or_hangs_is_a_line(tmp_path, monkeypatch, script, said):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script.replace('sleep', 'exec sleep')}\n")
    python.chmod(0o755)
    if "sleep" in script:
        monkeypatch.setattr(doctor_torch, "TORCH_SECONDS", 0.5)
    (found,) = [check for check in check_torch(str(python)) if check.name == "torch"]
    assert found.status == "refused"
    assert said in found.says
    assert found.mend


@pytest.mark.parametrize(
    ("told", "gpus", "status", "said"),
    [
        ({"cuda": None, "available": False}, ["H200"], "warning", "is built for CPU"),
        ({"cuda": "12.6", "available": False}, ["H200"], "refused", "cannot use the GPUs"),
        ({"cuda": "12.6", "available": True, "sum": 3.0}, ["H200"], "refused", "computes a wrong sum"),
        ({"cuda": "12.6", "available": True, "nccl": None}, ["H200"], "refused", "no NCCL"),
        ({"cuda": "12.6", "available": True}, ["H200"], "ok", "NCCL 2.27.3"),
        ({"cuda": None, "available": False, "distributed": False}, [], "refused", "torch.distributed"),
    ],
)
def test_torch_is_judged_beside_the_drivers_gpus(told, gpus, status, said):
    last = judge_torch(TORCH | told, gpus)[-1]
    assert last.status == status
    assert said in last.says


def test_compiled_operations_need_a_folder_that_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", "/proc/extensions")
    assert check_extensions_folder().status == "refused"
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert check_extensions_folder().status == "warning"


def test_few_open_files_memory_and_disk():
    assert check_open_files((256, 4096)).status == "refused"
    assert check_open_files((4096, 4096)).status == "warning"
    assert check_open_files((65536, 65536)).status == "ok"
    assert check_open_files((-1, -1)).status == "ok"
    assert check_memory(10**9).status == "refused"
    assert check_memory(4 * 10**9).status == "warning"
    assert check_shared_memory("/nowhere").status == "skipped"
    assert judge_disk("x", 3, 100).status == "refused"
    assert judge_disk("x", 8, 100).status == "warning"
    assert {check.status for check in check_disks(Workspace.resolve("/tmp"))} <= {"ok", "warning"}


def test_a_token_that_others_can_read_is_refused(tmp_path, monkeypatch):
    token = tmp_path / "token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    assert check_token_file().status == "skipped"
    token.write_text("secret-token")
    token.chmod(0o644)
    found = check_token_file()
    assert (found.status, found.mend) == ("refused", f"chmod 600 {token}")
    assert "secret-token" not in str(found)
    token.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert check_token_file().status == "ok"


def test_a_port_that_is_taken_is_named_with_who_has_it(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        monkeypatch.setenv("HEAD_PORT", str(port))
        found = [check for check in check_ports() if check.facts.get("port") == port]
    assert [check.status for check in found] == ["warning"]
    assert f"{port}, for Ray's head, is in use by " in found[0].says
    assert "HEAD_PORT" in found[0].mend


def test_a_proxy_that_is_asked_for_this_machine_is_warned_of(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert check_proxies()[0].status == "ok"
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    (found,) = check_proxies("http://head:8265")
    assert found.status == "warning"
    assert found.facts["hosts"] == ["127.0.0.1", "localhost", "head"]
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost,head")
    assert check_proxies("http://head:8265")[0].status == "ok"


def test_a_redis_that_does_not_answer_is_refused_without_its_password(monkeypatch, tmp_path):
    place = Workspace.resolve(str(tmp_path))
    monkeypatch.delenv("RAY_REDIS_ADDRESS", raising=False)
    assert check_redis(place)[0].status == "skipped"
    monkeypatch.setenv("RAY_REDIS_ADDRESS", "redis://:hidden@127.0.0.1:1")
    (found,) = check_redis(place)
    assert found.status == "refused"
    assert "127.0.0.1:1" in found.says
    assert "hidden" not in str(found)


def test_a_clock_that_is_off_is_told_by_how_much_and_which_way():
    head = Head("http://head", True, "3.11", 90.0)
    assert "90 s ahead of this machine's" in check_clock(head).says
    assert check_clock(Head("http://head", True, None, None)).status == "skipped"
    summary = list(mappings(recorded("nodes")["data"]["summary"]))
    said = max(entry["now"] for entry in summary if "now" in entry)
    assert check_node_clocks(summary, said) == []
    behind = check_node_clocks(summary, said - 3600)
    assert behind
    assert all(check.status == "warning" and "ahead of this machine's" in check.says for check in behind)


def test_nodes_that_are_lost_and_disks_that_are_full_are_named():
    with answering({"nodes": recorded("nodes_dead")}) as address, RayApi(address) as api:
        nodes = read_nodes(api)
    full = nodes[0].model_copy(update={"disk_total_bytes": 100, "disk_used_bytes": 97})
    checks = check_nodes((full, *nodes[1:]))
    assert any(check.status == "refused" and "97% full" in check.says for check in checks)


def deep(host: str, seen: list[str], **wrote) -> dict:
    told = {"host": host, "python": "3.11.7", "packages": {}, "open_files": 65536} | wrote
    packages = dict.fromkeys(("ray", "torch", "transformers", "deepspeed", "pyarrow"))
    from importlib import metadata

    told["packages"] = {name: metadata.version(name) for name in packages} | told["packages"]
    return {"wrote": told, "read": {"seen": seen}, "ahead": 0.0, "uncertain": 0.01}


def test_what_the_nodes_tell_is_judged():
    fine = {"a": deep("one", ["a", "b", "here"]), "b": deep("two", ["a", "b", "here"])}
    assert {check.status for check in judge(fine, "/shared", None)} == {"ok"}
    apart = {"a": deep("one", ["a", "here"]), "b": deep("two", ["b"])}
    said = [check.says for check in judge(apart, "/shared", None) if check.status == "refused"]
    assert said[0] == "one does not see in /shared what two wrote: it is not one place"
    odd = {"a": deep("one", ["a"], packages={"torch": "2.1.0+cu118"}, open_files=256)}
    odd["a"] |= {"ahead": -30.0}
    warned = {check.name for check in judge(odd, "/shared", "not here") if check.status == "warning"}
    assert warned == {"versions there", "open files there", "clocks"}
    locked = {"a": deep("one", [], cannot_write="PermissionError: no")}
    assert "one cannot write to /shared: PermissionError: no" in judge(locked, "/shared", None)[0].says


@pytest.mark.heavy
def test_the_whole_doctor_raises_nothing_and_loads_neither_torch_nor_ray(tmp_path):
    code = (
        "import sys\nfrom heliostat.control.doctor import examine\n"
        "found = examine(address='http://127.0.0.1:1')\n"
        "print([check.name for check in found.refusals])\n"
        "print(*(name.partition('.')[0] for name in sys.modules))"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cluster" in done.stdout
    assert not {"torch", "ray", "mlflow", "transformers"} & set(done.stdout.splitlines()[-1].split())
    assert time.monotonic() - started < 60


@pytest.mark.heavy
def test_a_remote_workspace_that_cannot_be_reached_is_a_line(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")  # no compiler, no ninja, no nvidia-smi either
    monkeypatch.setattr(doctor_torch, "TORCH_SECONDS", 0.2)
    found = examine("s3://bucket/x?scheme=http&endpoint_override=127.0.0.1:1")
    names = {check.name: check.status for check in found.checks}
    assert names["workspace"] in ("refused", "warning")
    assert names["compiler"] == "warning"
