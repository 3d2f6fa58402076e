"""GPU, driver, torch and DeepSpeed's compiled operations. What imports torch runs in a process of its own: a
torch that is broken, or that hangs on a driver, is a line here."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from heliostat.control.checks import Check, Question, ok, refused, skipped, warning
from heliostat.control.preflight_place import nearest

TORCH_SECONDS = 40.0
"""A first import from a cold disk; a warm one takes three."""
TOOL_SECONDS = 10.0
PROBE = """
import json, torch
told = {"version": torch.__version__, "cuda": torch.version.cuda, "available": torch.cuda.is_available()}
told["devices"] = [torch.cuda.get_device_name(each) for each in range(torch.cuda.device_count())]
told["nccl"] = ".".join(map(str, torch.cuda.nccl.version())) if torch.version.cuda else None
told["distributed"] = torch.distributed.is_available()
told["compiles_with_cxx11"] = torch.compiled_with_cxx11_abi()
told["sum"] = float((torch.ones(8, 8) @ torch.ones(8, 8)).sum())
if told["available"]:
    told["gpu_sum"] = float((torch.ones(8, 8, device="cuda") @ torch.ones(8, 8, device="cuda")).sum())
print(json.dumps(told))
"""
RIGHT_SUM = 512.0


def torch_questions() -> list[Question]:
    """The checks of this file."""
    return [
        Question("torch", check_torch, TORCH_SECONDS + TOOL_SECONDS + 1),
        Question("deepspeed", check_deepspeed_tools, 2 * TOOL_SECONDS + 1),
        Question("extensions", check_extensions_folder),
    ]


def check_torch(python: str = sys.executable) -> list[Check]:
    """The driver's GPUs, and whether torch loads, computes, and uses them."""
    gpus = driver_gpus()
    said = f"{len(gpus)} GPU(s): {', '.join(sorted(set(gpus)))}" if gpus else "none, by nvidia-smi"
    checks = [ok("gpu", said, devices=gpus)]
    try:
        done = _run([python, "-c", PROBE], TORCH_SECONDS)
    except subprocess.TimeoutExpired:
        mend = "run 'python -c \"import torch\"'; a hanging driver answers to 'nvidia-smi' as slowly"
        return [*checks, refused("torch", f"importing torch took longer than {TORCH_SECONDS:g} s", mend)]
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        why = lines[-1] if lines else f"it ended with exit code {done.returncode}"
        mend = "install it again: pip install --force-reinstall 'torch>=2.11,<2.14'"
        return [*checks, refused("torch", f"torch cannot be loaded: {why}", mend)]
    return [*checks, *judge_torch(json.loads(done.stdout.splitlines()[-1]), gpus)]


def judge_torch(told: dict[str, Any], gpus: list[str]) -> list[Check]:
    """What the torch of this machine says of itself, beside the GPUs that the driver knows."""
    version, cuda = told["version"], told["cuda"]
    if told["sum"] != RIGHT_SUM or told.get("gpu_sum", RIGHT_SUM) != RIGHT_SUM:
        mend = "install it again; if that does not help, test the machine's memory"
        return [refused("torch", f"torch {version} computes a wrong sum", mend, **told)]
    if not told["distributed"]:
        mend = "install a build of torch with distributed"
        return [refused("torch", f"torch {version} was built without torch.distributed", mend, **told)]
    if not gpus:
        return [ok("torch", f"torch {version}, on CPU", **told)]
    if cuda is None:
        mend = "install the CUDA build of the same version of torch"
        says = f"torch {version} is built for CPU, and this machine has {len(gpus)} GPU(s)"
        return [warning("torch", says, mend, **told)]
    if not told["available"]:
        mend = "update the driver to one for that CUDA, or install a torch built for an older one"
        return [refused("torch", f"torch {version} (CUDA {cuda}) cannot use the GPUs", mend, **told)]
    checks = [ok("torch", f"torch {version}, CUDA {cuda}, on {len(told['devices'])} GPU(s)", **told)]
    if told["nccl"]:
        checks.append(ok("nccl", f"NCCL {told['nccl']}", version=told["nccl"]))
    else:
        checks.append(refused("nccl", "torch has no NCCL", "install a build of torch with NCCL"))
    return checks


def driver_gpus() -> list[str]:
    """The names of the GPUs that the driver knows; none without an nvidia-smi that answers."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        done = _run([tool, "--query-gpu=name,driver_version", "--format=csv,noheader"], TOOL_SECONDS)
    except subprocess.TimeoutExpired:
        return []
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return [line.replace(", ", " (driver ") + ")" for line in lines if "," in line]


def check_deepspeed_tools() -> list[Check]:
    """What DeepSpeed compiles its operations with, at first use."""
    compiler = next((found for name in _compilers() if (found := shutil.which(name))), None)
    ninja = shutil.which("ninja", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))
    checks = []
    if compiler is None:
        mend = "apt install g++, or set CXX; until then: layout.zero without offload, torch_adam"
        checks.append(warning("compiler", "no C++ compiler: DeepSpeed's operations cannot be compiled", mend))
    if ninja is None:
        mend = "pip install ninja"
        checks.append(warning("ninja", "no ninja: DeepSpeed's operations cannot be compiled", mend))
    if compiler and ninja:
        checks.append(ok("compiler", f"{compiler} and {ninja}", compiler=compiler, ninja=ninja))
    return [*checks, check_nvcc()]


def check_nvcc() -> Check:
    """The CUDA compiler, which fused GPU operations need."""
    home = os.environ.get("CUDA_HOME")
    tool = shutil.which("nvcc", path=f"{home}/bin" if home else None)
    gpus = driver_gpus()
    if tool is None:
        if not gpus:
            return skipped("nvcc", "no GPU here, so none is needed")
        mend = "install the CUDA toolkit of torch's CUDA release, or set CUDA_HOME to where it is"
        return warning("nvcc", "no nvcc: DeepSpeed's GPU operations cannot be compiled", mend)
    done = _run([tool, "--version"], TOOL_SECONDS)
    release = next((part for part in done.stdout.replace(",", " ").split() if part.startswith("V")), "V?")
    return ok("nvcc", f"{tool}, CUDA {release[1:]}", path=tool, version=release[1:])


def check_extensions_folder() -> Check:
    """Where compiled operations are kept: minutes of compiling are lost with it."""
    given = os.environ.get("TORCH_EXTENSIONS_DIR")
    folder = Path(given or "~/.cache/torch_extensions").expanduser()
    there = nearest(folder)
    mend = "set TORCH_EXTENSIONS_DIR to a folder that stays and can be written"
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        return refused("extensions", f"{there} cannot be written: {error.strerror or error}", mend)
    if folder.is_relative_to(tempfile.gettempdir()):
        return warning(
            "extensions", f"{folder} is emptied now and then: minutes of compiling go with it", mend
        )
    return ok("extensions", str(folder), folder=str(folder))


def _compilers() -> list[str]:
    return [*filter(None, [os.environ.get("CXX")]), "c++", "g++", "clang++"]


def _run(command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
