"""What travels to the cluster with a job: its working folder and, from a source checkout, this package.

Both are zip files with sorted names and fixed dates, so equal content has an equal name and is sent once.
"""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pathspec
import yaml

import heliostat
from heliostat.errors import ConfigError
from heliostat.recipe_file import RecipeFile

LIMIT_BYTES = 512 * 1024 * 1024
"""Ray's own limit for an uploaded package."""
ENTRY_SCRIPT = "jobs/run_pipeline.py"
WHEEL_FOLDER = Path(heliostat.__file__).resolve().parent / "roof"
"""Where a wheel keeps what lies beside platform/ in a checkout: dashboard/ and jobs/."""
_NEVER = ("__pycache__/", "*.pyc")
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Package:
    """A zip file to upload."""

    name: str
    content: bytes

    @property
    def uri(self) -> str:
        """How a runtime_env names it."""
        return f"gcs://{self.name}"


def working_folder() -> Path:
    """The folder whose jobs/ travels: the current one, else the checkout this package runs from, or what a
    wheel brought along.

    Raises:
        ConfigError: none of them has a jobs/ folder.
    """
    for folder in (Path.cwd(), source_checkout() or WHEEL_FOLDER):
        if (folder / ENTRY_SCRIPT).is_file():
            return folder
    raise ConfigError(f"{Path.cwd()}: there is no {ENTRY_SCRIPT} here; submit from a checkout of Heliostat")


def source_checkout() -> Path | None:
    """The checkout this package runs from; None when it is an installed wheel."""
    package = Path(heliostat.__file__).resolve().parent
    return package.parent.parent if package.parent.name == "platform" else None


def pack_jobs(folder: Path, recipe: Path) -> tuple[Package, str, str]:
    """The working folder's jobs/, the recipe's path inside the package, and its text there.

    The recipe goes in with its bases folded into it, so any recipe will do, wherever it and they lie.

    Raises:
        ConfigError: the recipe cannot be read, or the files are more than Ray takes.
    """
    files = _files(folder, "jobs")
    place = f"jobs/recipes/{recipe.stem}.yaml"
    values = RecipeFile.read(recipe).values
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    files[place] = text.encode()
    return _pack("jobs", files), place, text


def pack_source() -> Package | None:
    """This package's own source, which shadows whatever version the cluster has; None from a wheel."""
    checkout = source_checkout()
    return pack_folder("heliostat", checkout / "platform") if checkout else None


def pack_folder(below: str, root: Path) -> Package:
    """The folder `root/below` as a package of that label."""
    return _pack(below, _files(root, below))


def _files(root: Path, below: str) -> dict[str, bytes | Path]:
    """The files below `root/below` by their path under `root`, without those that .rayignore names."""
    ignore_file = root / ".rayignore"
    patterns = ignore_file.read_text().splitlines() if ignore_file.is_file() else []
    ignored = pathspec.GitIgnoreSpec.from_lines([*patterns, *_NEVER])
    found: dict[str, bytes | Path] = {}
    for path in sorted((root / below).rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not ignored.match_file(name):
            found[name] = path
    return found


def _pack(label: str, files: dict[str, bytes | Path]) -> Package:
    sizes = {
        name: len(content) if isinstance(content, bytes) else content.stat().st_size
        for name, content in files.items()
    }
    _check_size(sizes)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            content = files[name]
            entry = zipfile.ZipInfo(name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content if isinstance(content, bytes) else content.read_bytes())
    packed = buffer.getvalue()
    return Package(f"_heliostat_{label}_{hashlib.sha256(packed).hexdigest()[:32]}.zip", packed)


def _check_size(sizes: dict[str, int]) -> None:
    total = sum(sizes.values())
    if total <= LIMIT_BYTES:
        return
    biggest = sorted(sizes, key=lambda name: -sizes[name])[:3]
    named = ", ".join(f"{name} ({sizes[name] / 2**20:.0f} MiB)" for name in biggest)
    raise ConfigError(
        f"the files to submit are {total / 2**20:.0f} MiB, and Ray takes {LIMIT_BYTES / 2**20:.0f} MiB; "
        f"the biggest are {named}; name them in .rayignore"
    )
