"""What only a process on every node can tell: whether the workspace is one place, versions, clocks, limits.

A job of Ray's runs SCRIPT. It needs nothing but Ray and pyarrow on the nodes, so that it also tells of nodes
on which Heliostat does not run; and it takes no CPU, so that a busy cluster answers.
"""

import json
import secrets
import sys
import time
from importlib import metadata
from typing import Any

from heliostat.control.checks import Check, ok, refused, skipped, warning
from heliostat.control.head import MOST_SKEW_SECONDS
from heliostat.control.ray_api import RayApi
from heliostat.errors import ClusterError, StorageError
from heliostat.workspace import Workspace

SECONDS = 100.0
POLL_SECONDS = 0.5
MARK = "HELIOSTAT-DOCTOR "
PACKAGES = ("ray", "torch", "transformers", "deepspeed", "pyarrow")
FINAL = ("SUCCEEDED", "FAILED", "STOPPED")
FEW_FILES = 1024

SCRIPT = """
import json, os, platform, resource, socket, sys, time
from importlib import metadata
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

ROOT, FOLDER, NAMES = os.environ["DOCTOR_ROOT"], os.environ["DOCTOR_FOLDER"], os.environ["DOCTOR_PACKAGES"]


def place():
    import pyarrow.fs as fs
    return fs.FileSystem.from_uri(ROOT)


def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@ray.remote(num_cpus=0, max_retries=0)
def write(name):
    told = {"host": socket.gethostname(), "now": time.time(), "python": platform.python_version()}
    told["packages"] = {each: version(each) for each in NAMES.split(",")}
    told["open_files"] = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        files, path = place()
        files.create_dir(path + "/" + FOLDER, recursive=True)
        with files.open_output_stream(path + "/" + FOLDER + "/" + name) as stream:
            stream.write(name.encode())
    except Exception as error:
        told["cannot_write"] = (type(error).__name__ + ": " + str(error)).splitlines()[0]
    return told


@ray.remote(num_cpus=0, max_retries=0)
def read():
    import pyarrow.fs as fs
    before = time.time()
    try:
        files, path = place()
        found = files.get_file_info(fs.FileSelector(path + "/" + FOLDER, allow_not_found=True))
        return {"seen": [each.base_name for each in found], "now": before}
    except Exception as error:
        return {"seen": [], "now": before}


ray.init(log_to_driver=False)
nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
told = {}
for task, key in ((write, "wrote"), (read, "read")):
    waiting = {}
    for node in nodes:
        arguments = (node,) if task is write else ()
        waiting[task.options(scheduling_strategy=On(node, soft=False)).remote(*arguments)] = node
    ready, late = ray.wait(list(waiting), num_returns=len(waiting), timeout=40)
    for each in ready:
        try:
            told.setdefault(waiting[each], {})[key] = ray.get(each)
        except Exception as error:
            told.setdefault(waiting[each], {})["failed"] = str(error).strip().splitlines()[-1]
    for each in late:
        told.setdefault(waiting[each], {})["failed"] = "no answer within 40 s"
# Again, with a process that is there: how far its clock is from the driver's.
for node in nodes:
    if "read" in told.get(node, {}):
        before = time.time()
        answer = ray.get(read.options(scheduling_strategy=On(node, soft=False)).remote())
        told[node]["ahead"] = answer["now"] - (before + time.time()) / 2
        told[node]["uncertain"] = (time.time() - before) / 2
print("HELIOSTAT-DOCTOR " + json.dumps(told))
files, path = place()
files.delete_dir(path + "/" + FOLDER)
"""


def deep_checks(address: str, workspace: Workspace) -> list[Check]:
    """Run the job and judge what it told.

    Raises:
        ClusterError: it could not be run.
    """
    folder = f".heliostat-doctor-{secrets.token_hex(4)}"
    own = _write_own(workspace, folder)
    try:
        told = _run(address, workspace, folder)
    finally:
        if own is None:
            workspace.storage.delete(folder)
    if told is None:
        mend = "look at the job's log in Ray's dashboard"
        return [warning("nodes from inside", f"the job did not end within {SECONDS:g} s", mend)]
    return judge(told, workspace.storage.root, own)


def judge(told: dict[str, dict[str, Any]], root: str, cannot_write_here: str | None) -> list[Check]:
    """What the nodes told, by their ids. `cannot_write_here` is why this machine left no file of its own."""
    checks = []
    for node, each in told.items():
        name = (each.get("wrote") or {}).get("host") or node[-8:]
        if "failed" in each:
            mend = "start that node again"
            checks.append(refused("nodes from inside", f"{name}: {each['failed']}", mend, node=node))
    answered = {node: each for node, each in told.items() if "read" in each and "wrote" in each}
    if not answered:
        return checks or [skipped("nodes from inside", "no node answered")]
    checks += _storage(answered, root, cannot_write_here)
    checks += _versions(answered)
    for each in answered.values():
        name, ahead = each["wrote"]["host"], each.get("ahead", 0.0)
        if abs(ahead) - each.get("uncertain", 0.0) > MOST_SKEW_SECONDS:
            which = "ahead of" if ahead > 0 else "behind"
            says = f"the clock of {name} is {abs(ahead):,.0f} s {which} the head's"
            mend = "let its time be kept by NTP (timedatectl set-ntp true)"
            checks.append(warning("clocks", says, mend, ahead_seconds=round(ahead, 1)))
        if 0 <= each["wrote"]["open_files"] <= FEW_FILES:
            says = f"{name}: {each['wrote']['open_files']:,} files may be open at once"
            checks.append(warning("open files there", says, "ulimit -n 65536 before starting Ray there"))
    return checks


def _storage(told: dict[str, dict[str, Any]], root: str, cannot_write_here: str | None) -> list[Check]:
    name, checks = "shared storage", []
    mend = "name a folder that is mounted on every node at the same path, or a URI (s3://...)"
    for each in told.values():
        host, problem = each["wrote"]["host"], each["wrote"].get("cannot_write")
        if problem:
            checks.append(refused(name, f"{host} cannot write to {root}: {problem}", mend))
            continue
        missing = [told[other]["wrote"]["host"] for other in told if other not in each["read"]["seen"]]
        missing = [other for other in missing if not _by_host(told, other).get("cannot_write")]
        if missing:
            says = f"{host} does not see in {root} what {', '.join(missing)} wrote"
            checks.append(refused(name, f"{says}: it is not one place", mend))
        elif cannot_write_here is None and "here" not in each["read"]["seen"]:
            says = f"{host} does not see in {root} what this machine wrote: it is not one place"
            checks.append(refused(name, says, mend))
    if checks:
        return checks
    beside = "" if cannot_write_here is None else f"; this machine does not reach it ({cannot_write_here})"
    return [ok(name, f"{len(told)} node(s) write and read in {root}{beside}", nodes=len(told))]


def _by_host(told: dict[str, dict[str, Any]], host: str) -> dict[str, Any]:
    return next((each["wrote"] for each in told.values() if each["wrote"]["host"] == host), {})


def _versions(told: dict[str, dict[str, Any]]) -> list[Check]:
    """Packages of the nodes beside those here; compared by release, without a build's suffix (+cu126)."""
    ours = {"python": ".".join(map(str, sys.version_info[:2]))}
    for name in PACKAGES:
        try:
            ours[name] = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            continue
    checks = []
    for each in told.values():
        there = {"python": ".".join(each["wrote"]["python"].split(".")[:2])}
        there |= {
            name: (v or "not installed").partition("+")[0] for name, v in each["wrote"]["packages"].items()
        }
        for name, version in ours.items():
            if there[name] != version:
                says = f"{each['wrote']['host']} has {name} {there[name]}, here it is {version}"
                mend = f"install {name} {version} there, or {there[name]} here"
                checks.append(warning("versions there", says, mend, package=name))
    return checks or [
        ok("versions there", f"the nodes have the packages of this machine ({len(ours)} compared)")
    ]


def _write_own(workspace: Workspace, folder: str) -> str | None:
    """Leave a file for the nodes to see; the reason why not."""
    try:
        workspace.storage.write_bytes(f"{folder}/here", b"here")
    except StorageError as error:
        return str(error)
    return None


def _run(address: str, workspace: Workspace, folder: str) -> dict[str, Any] | None:
    variables = {
        "DOCTOR_ROOT": workspace.storage.root,
        "DOCTOR_FOLDER": folder,
        "DOCTOR_PACKAGES": ",".join(PACKAGES),
        "DOCTOR_SCRIPT": SCRIPT,
    }
    entrypoint = "python -c 'import os; exec(os.environ[\"DOCTOR_SCRIPT\"])'"
    with RayApi(address) as api:
        submission = {
            "entrypoint": entrypoint,
            "submission_id": f"heliostat-doctor-{secrets.token_hex(4)}",
            "runtime_env": {"env_vars": variables},
            "metadata": {"recipe": "doctor"},
        }
        job_id = api.submit(submission)
        deadline = time.monotonic() + SECONDS
        while api.job(job_id).get("status") not in FINAL:
            if time.monotonic() > deadline:
                api.stop(job_id)
                return None
            time.sleep(POLL_SECONDS)
        log = api.logs(job_id)
    for line in log.splitlines():
        if line.startswith(MARK):
            return dict(json.loads(line.removeprefix(MARK)))
    lines = log.strip().splitlines() or ["it printed nothing"]
    raise ClusterError(f"the job that looks at the nodes failed: {lines[-1]}")
