"""What a machine gives: open files, shared memory, memory, disk, and a workspace that can be written."""

import os
import resource
import shutil
import tempfile
from pathlib import Path

from heliostat.control.auth_token import DEFAULT_PATH
from heliostat.control.checks import Check, Question, ok, refused, skipped, warning
from heliostat.control.preflight_place import check_workspace, nearest
from heliostat.training.plan_devices import available_bytes
from heliostat.workspace import Workspace

GB = 10**9
FEW_FILES, TOO_FEW_FILES = 8192, 1024
SHARED_SHARE = 0.25
"""Ray's object store takes 30 % of the memory, in /dev/shm if it is large enough; else on the disk."""
FULL, TOO_FULL = 0.9, 0.95
"""Above the second Ray writes no more objects (its local_fs_capacity_threshold)."""
FEW_BYTES, TOO_FEW_BYTES = 8 * GB, 2 * GB


def machine_questions(workspace: Workspace) -> list[Question]:
    """The checks of this file."""
    return [
        Question("open files", lambda: check_open_files(resource.getrlimit(resource.RLIMIT_NOFILE))),
        Question("shared memory", check_shared_memory),
        Question("memory", lambda: check_memory(available_bytes())),
        Question("disk", lambda: check_disks(workspace)),
        Question("workspace", lambda: check_workspace(workspace)),
        Question("token file", check_token_file),
    ]


def check_open_files(limits: tuple[int, int]) -> Check:
    """`ulimit -n`: Ray opens some files for each worker and connection. `limits` are soft and hard."""
    soft, hard = limits
    says = f"{soft:,} files may be open at once (at most {hard:,})"
    facts = {"soft": soft, "hard": hard}
    mend = f"ulimit -n {min(hard, 65536) if hard > 0 else 65536} before starting Ray"
    if hard <= TOO_FEW_FILES:
        mend = "raise 'nofile' in /etc/security/limits.conf, or --ulimit nofile=65536 of the container"
    if 0 <= soft < TOO_FEW_FILES:
        return refused("open files", says, mend, **facts)
    return (
        warning("open files", says, mend, **facts)
        if 0 <= soft < FEW_FILES
        else ok("open files", says, **facts)
    )


def check_shared_memory(folder: str = "/dev/shm") -> Check:
    """Room for Ray's object store."""
    if not Path(folder).is_dir():
        return skipped("shared memory", f"{folder} is not there: not Linux")
    total = shutil.disk_usage(folder).total
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    says = f"{folder} has {_gb(total)} GB, the machine {_gb(memory)} GB of memory"
    if total >= SHARED_SHARE * memory:
        return ok("shared memory", says, bytes=total)
    mend = (
        f"start the container with --shm-size={SHARED_SHARE * memory / GB:.0f}g (Kubernetes: an emptyDir of "
    )
    mend += "medium Memory at /dev/shm)"
    return warning("shared memory", f"{says}: Ray's object store goes to the disk", mend, bytes=total)


def check_memory(available: int) -> Check:
    """What processes can have now, in bytes."""
    says = f"{_gb(available)} GB of memory are free"
    mend = "end what else runs here; 'heliostat train plan RECIPE' says what a run needs"
    if available < TOO_FEW_BYTES:
        return refused("memory", says, mend, available_bytes=available)
    if available < FEW_BYTES:
        return warning("memory", says, mend, available_bytes=available)
    return ok("memory", says, available_bytes=available)


def check_disks(workspace: Workspace) -> list[Check]:
    """The disks of the workspace and of Ray's own files."""
    places = {"Ray's files": Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())}
    if not workspace.storage.remote:
        places["the workspace"] = Path(workspace.storage.root)
    found = {name: nearest(place) for name, place in places.items()}
    usages = {name: shutil.disk_usage(place) for name, place in found.items()}
    return [judge_disk(f"{name} ({found[name]})", usage.free, usage.total) for name, usage in usages.items()]


def judge_disk(name: str, free: int, total: int) -> Check:
    """How full a disk is, as Ray counts: by what this user may still write, in bytes."""
    share = 1 - free / total
    says = f"{_gb(free)} GB free on the disk of {name}, which is {share:.0%} full"
    facts = {"free_bytes": free, "total_bytes": total}
    mend = "free some space ('heliostat gc'), or name another disk in RAY_TMPDIR or --workspace"
    if share > TOO_FULL:
        return refused("disk", f"{says}: Ray refuses to write above {TOO_FULL:.0%}", mend, **facts)
    return warning("disk", says, mend, **facts) if share > FULL else ok("disk", says, **facts)


def check_token_file() -> Check:
    """Whether only its owner can read the token of a cluster."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or DEFAULT_PATH).expanduser()
    if not path.is_file():
        return skipped("token file", f"{path} is not there; a cluster that asks for a token needs one")
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        says = f"{path} can be read by others (mode {mode:04o}): who has it can run anything on the cluster"
        return refused("token file", says, f"chmod 600 {path}", mode=f"{mode:04o}")
    return ok("token file", f"{path}, mode {mode:04o}", mode=f"{mode:04o}")


def _gb(size: int) -> str:
    return f"{size / GB:,.1f}"
